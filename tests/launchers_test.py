"""The commands as a user types them, in processes of their own."""

import json
import pathlib
import subprocess
import sys

import pytest

from jswarm import cli

ROOT = pathlib.Path(__file__).parent.parent
SMALL = (
  "--config.task.dev_size=6",
  "--config.task.test_size=10",
  "--config.search.graphs=2",
  "--config.search.assignments=2",
  "--config.search.iterations=1",
  "--config.log.progress=False",
)


def _launch(name, *arguments):
  return subprocess.run(
    [sys.executable, "-m", f"experiments.{name}", *map(str, arguments)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=600,
  )


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("run")
  done = _launch(
    "search", "--config=configs/quickstart.py", f"--workdir={workdir}", *SMALL
  )
  assert done.returncode == 0, done.stderr
  return workdir, done.stdout


@pytest.mark.slow
def test_the_quickstart_prints_its_table_and_leaves_its_files(quickstart):
  workdir, printed = quickstart
  for row in ("best single expert", "star", "chain", "random DAG", "found system"):
    assert row in printed
  results = json.loads((workdir / "results.json").read_text())
  assert results["test"]["system"]["n"] == 10 and results["spend"]["made"] > 0
  for name in (
    "config.json",
    "metrics.jsonl",
    "best/jswarm_system.json",
    "report.html",
    "tb",
    "evals",
  ):
    assert (workdir / name).exists(), name


@pytest.mark.slow
def test_a_saved_system_scores_alike_outside_the_search(quickstart):
  workdir, _ = quickstart
  done = _launch(
    "evaluate",
    "--config=configs/quickstart.py",
    *SMALL,
    f"--system={workdir / 'best'}",
    "--split=test",
  )
  assert done.returncode == 0, done.stderr
  results = json.loads((workdir / "results.json").read_text())
  assert json.loads(done.stdout)["score"] == results["test"]["system"]["score"]


@pytest.mark.slow
def test_a_run_is_reported_with_its_parts_left_out_and_its_system_exported(
  quickstart, tmp_path
):
  workdir, _ = quickstart
  asked = ("--config=configs/quickstart.py", *SMALL, "--ablations")
  done = _launch("report", f"--workdir={workdir}", *asked, f"--out={tmp_path}/a.html")
  assert done.returncode == 0, done.stderr
  results = json.loads((workdir / "results.json").read_text())
  measured = json.loads((workdir / "ablations.json").read_text())
  assert abs(measured["full"] - results["dev"]["system"]) < 1e-6
  assert len(measured["edges"]) == len(results["system"]["edges"])
  assert "without " in (tmp_path / "a.html").read_text()
  system = f"--system={workdir / 'best'}"
  done = _launch("export", system, "--to=merged", f"--out={tmp_path}/models")
  assert done.returncode == 0, done.stderr
  names = {node["expert"] for node in results["system"]["nodes"]}
  assert {path.name for path in (tmp_path / "models").iterdir()} == names


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["--expert=letters", "--topology=layered"])
def test_an_expert_and_a_topology_are_scored_on_a_split(subject, tmp_path):
  done = _launch(
    "evaluate",
    "--config=configs/skills.py",
    *SMALL,
    subject,
    "--split=dev",
    f"--out={tmp_path / 'rows.jsonl'}",
  )
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout)["n"] == 6
  assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 6


@pytest.mark.slow
def test_draws_end_with_the_score_that_chose_and_one_that_did_not(tmp_path):
  arguments = ("--config=configs/quickstart.py", *SMALL, "--draws=2")
  done = _launch("sweep", *arguments, f"--workdir={tmp_path}")
  assert done.returncode == 0, done.stderr
  assert "Of 2 draws" in done.stdout and "that chose nothing" in done.stdout
  kept = json.loads((tmp_path / "draws.json").read_text())
  assert kept["count"] == len(kept["rows"]) == 2


@pytest.mark.parametrize(
  "arguments, message",
  [
    (["--config.search.graph=3"], "no field 'graph' Did you mean \"graphs\""),
    (["--config.search.mode=best"], "search.mode='best': allowed are fixed"),
    (
      ["--config.pool.experts=('builtin:tiny_pool/experts/nope',)"],
      "tiny_pool/experts/nope, which does not exist",
    ),
    (
      ["--config.task.records=jswarm.tasks.synthetic.words:nothing"],
      "no function 'nothing'",
    ),
    (["extra"], "unknown arguments ['extra']"),
  ],
)
def test_a_bad_command_ends_with_one_clear_line(tmp_path, arguments, message):
  done = _launch(
    "search", "--config=configs/quickstart.py", f"--workdir={tmp_path}/w", *arguments
  )
  assert done.returncode == 65
  assert message in " ".join(done.stderr.split()) and "Traceback" not in done.stderr
  assert not (tmp_path / "w" / "results.json").exists()


@pytest.mark.parametrize(
  "name, flag", [("analyse", "analysis"), ("baseline", "baseline")]
)
def test_what_there_is_is_listed_without_a_configuration(name, flag):
  done = _launch(name, f"--{flag}=help")
  assert done.returncode == 0 and len(done.stdout.splitlines()) > 10
  done = _launch(name, f"--{flag}=star")
  assert done.returncode == 65 and "--config is missing" in done.stderr


@pytest.mark.parametrize("home", [None, "/proc"])
def test_without_a_home_that_can_be_written_no_programs_are_kept(home, monkeypatch):
  """As in a container whose user nobody knows, or on a read-only disk."""

  def unknown():
    raise RuntimeError("Could not determine home directory.")

  monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
  find = unknown if home is None else lambda: pathlib.Path(home)
  monkeypatch.setattr(pathlib.Path, "home", find)
  assert cli._cache_folder() is None


@pytest.mark.slow
def test_an_analysis_writes_numbers_a_figure_and_what_they_say(tmp_path):
  arguments = ("--config=configs/quickstart.py", *SMALL, f"--workdir={tmp_path}")
  done = _launch("analyse", "--analysis=moves,jfk_noise", "--seeds=1", *arguments)
  assert done.returncode == 0, done.stderr
  assert "moves: Dev utility, from the first to the last iteration" in done.stdout
  for name in ("moves", "jfk_noise"):
    assert json.loads((tmp_path / f"{name}.json").read_text())["questions"] == 10
    assert (tmp_path / f"{name}.svg").exists() and (tmp_path / f"{name}.md").exists()
  done = _launch("analyse", "--analysis=gains", *arguments)
  assert done.returncode == 65 and "--analysis='gains': allowed are" in done.stderr
