"""An analysis is a JSON, a figure whose caption says what it is of, and a paragraph."""

import json

import pytest

from jswarm.analysis import analyses, figures

NOTHING = {
  "seeds": [],
  "stages": [],
  "judge": "proxy",
  "rows": [],
  "votes": [],
  "families": {},
  "histories": [],
  "singles": [],
  "source": "A",
  "target": "B",
  "there": 1,
  "simulated": False,
  "seeds_run": [],
  "questions": 0,
  "config": {},
  "failed": ["both, seed 0: KeyError: x"],
}


@pytest.mark.parametrize("name", analyses.ANALYSES)
def test_an_analysis_of_nothing_says_so_and_names_what_failed(name, tmp_path):
  told = analyses.write(name, NOTHING, tmp_path)
  assert "othing" in told["findings"]  # "Nothing is said", "nothing to say"
  assert json.loads((tmp_path / f"{name}.json").read_text()) == told
  text = (tmp_path / f"{name}.md").read_text()
  assert "- both, seed 0: KeyError: x" in text and told["findings"] in text


def test_the_caption_says_what_is_plotted_of_which_seeds_and_how_many_questions(
  tmp_path,
):
  rows = [
    {"distinct": a, "copies": 1, "seed": s, "test": a / 4, "dev": 0.1, "calls": 9}
    for a in (1, 2)
    for s in (0, 1)
  ]
  gathered = {**NOTHING, "rows": rows, "seeds_run": [0, 1], "questions": 300}
  told = analyses.write("diversity", gathered, tmp_path)
  assert told["caption"].endswith("Seeds: 0, 1; n = 300 test questions.")
  assert told["numbers"]["change"] == 1.0
  drawn = (tmp_path / "diversity.svg").read_text()
  # In an SVG words are outlines; the comment beside them is the text.
  assert "<!-- Test score of the found system" in drawn and "n = 300" in drawn
  assert "](diversity.svg)" in (tmp_path / "diversity.md").read_text()


def test_without_matplotlib_there_is_no_figure_and_no_error(tmp_path, monkeypatch):
  monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
  assert not figures.save(lambda *_: None, {}, "", tmp_path / "x.svg")
  told = analyses.write("moves", NOTHING, tmp_path)
  assert not (tmp_path / "moves.svg").exists()
  assert "![" not in (tmp_path / "moves.md").read_text() and told["findings"]
