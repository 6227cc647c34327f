"""The page of a run: all of it is there, nothing breaks out of it, it needs nothing."""

import base64
import hashlib
import html.parser
import json
import re
import socket
import urllib.error
import urllib.request

import pytest

from jswarm.core.files import write_json, write_jsonl
from jswarm.report import html as html_lib
from jswarm.report import live, pages, records, sections, spending
from tests.report import canned

EVIL = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
# Elements without an end.
VOID = {"meta", "link", "input", "br", "img"}


@pytest.fixture
def run(tmp_path):
  return canned.write(tmp_path / "run")


class _Read(html.parser.HTMLParser):
  """What a browser would see: elements, ids, labels, headings; their nesting."""

  def __init__(self):
    super().__init__()
    self.open, self.seen, self.text = [], [], []
    self.wrong = []

  def handle_starttag(self, tag, attrs):
    self.seen.append((tag, dict(attrs)))
    if tag not in VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.seen.append((tag, dict(attrs)))

  def handle_endtag(self, tag):
    if not self.open or self.open.pop() != tag:
      self.wrong.append(tag)

  def handle_data(self, data):
    if self.open and self.open[-1] not in ("script", "style"):
      self.text.append(data)


def _read(text):
  page = _Read()
  page.feed(text)
  assert not page.wrong and page.open == [], (page.wrong, page.open)
  return page


def _data(text):
  (found,) = re.findall(
    r'<script type="application/json" id="data">(.*?)</script>', text
  )
  return json.loads(found)


def test_a_page_has_every_section_and_the_numbers_of_the_run(run):
  page = _read(pages.render(run))
  ids = {attrs["id"] for _, attrs in page.seen if "id" in attrs}
  assert {
    "system",
    "scores",
    "moves",
    "experts",
    "questions",
    "cost",
    "troubles",
  } <= ids
  results = json.loads((run / "results.json").read_text())
  words = " ".join(page.text)
  for name in ("system", "best_single", "random_search"):
    assert f"{results['test'][name]['score']:.3f}" in words
  for node in results["system"]["nodes"]:
    assert node["expert"] in words
  assert "best of as many random graphs" in words


def test_a_page_needs_no_network_and_no_other_file(run):
  text = pages.render(run)
  for tag, attrs in _read(text).seen:
    for name in ("src", "href", "action", "data", "srcset"):
      link = attrs.get(name) or ""
      assert not link or link.startswith(("#", "data:")), (tag, link)
  assert not re.search(r"url\((?!#tip)|@import", text)
  assert "default-src 'none'" in text


def test_the_policy_runs_the_script_of_the_page_and_no_other(run):
  text = pages.render(run)
  (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  assert f"script-src 'sha256-{digest}'" in text


def test_nothing_that_a_model_or_a_user_wrote_is_read_as_markup(run):
  for path in [run / "evals" / "traces.jsonl", run / "evals" / "test.jsonl"]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
      row["question"] = row["id"] = row["reply"] = EVIL
      for node in row.get("nodes", []):
        node["prompt"] = node["reply"] = node["expert"] = EVIL
    write_jsonl(path, rows)
  for name in ("results.json", "config.json", "manifest.json", "progress.json"):
    text = (run / name).read_text()
    value = json.loads(re.sub(r"(ada|bea|cyd)", EVIL.replace('"', '\\\\"'), text))
    value["skipped_experts"] = {EVIL: EVIL}
    write_json(run / name, {**value, EVIL: EVIL})
  text = pages.render(run)
  assert "<img" not in text and "<script>alert" not in text
  assert [tag for tag, _ in _read(text).seen].count("script") == 2
  assert _data(text)["questions"][0]["nodes"][0]["reply"] == EVIL


def test_every_control_has_a_label_and_headings_come_in_order(run):
  page = _read(pages.render(run))
  labelled = {attrs.get("for") for tag, attrs in page.seen if tag == "label"}
  for tag, attrs in page.seen:
    if tag == "input" and attrs["type"] != "radio":  # those stand in their labels
      assert attrs["id"] in labelled
    if tag == "svg":
      assert attrs.get("role") == "img" or attrs.get("aria-hidden") == "true"
    if attrs.get("aria-labelledby"):
      assert ("h2", {"id": attrs["aria-labelledby"]}) in page.seen
  levels = [int(tag[1]) for tag, _ in page.seen if re.fullmatch(r"h\d", tag)]
  assert levels[0] == 1 and levels.count(1) == 1
  assert all(b - a <= 1 for a, b in zip(levels, levels[1:]))
  linked = {attrs["href"][1:] for tag, attrs in page.seen if tag == "a"}
  assert linked <= {attrs.get("id") for _, attrs in page.seen}


def _luminance(colour):
  parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
  linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_words_stand_out_from_the_page_by_day_and_by_night():
  """WCAG 2, level AA: 4.5 to 1."""
  for block in re.findall(r":root\{(.*?)\}", html_lib._text("report.css")):
    colours = dict(re.findall(r"--(\w+):(#\w{6})(?=;|$)", block))
    for back in ("page", "soft", "card"):
      for words in ("ink", "quiet", "accent", "good", "bad"):
        pair = sorted(_luminance(colours[name]) + 0.05 for name in (words, back))
        assert pair[1] / pair[0] >= 4.5, (words, back)


def test_a_run_under_way_and_one_of_an_older_version_have_a_page_too(run):
  (run / "results.json").unlink()
  text = pages.render(run)
  assert "Under way: iteration 2 of 2" in text and "best system so far" in text
  for path in [*run.iterdir(), *(run / "evals").iterdir()]:
    if path.is_file() and path.name != "config.json":
      path.unlink()
  assert "No system has been scored yet." in _read(pages.render(run)).text


def test_a_run_that_goes_on_after_its_end_is_under_way_again(run):
  progress = json.loads((run / "progress.json").read_text())
  write_json(run / "progress.json", {**progress, "iteration": 3, "iterations": 9})
  text = pages.render(run)
  assert "Under way: iteration 3 of 9" in text and _data(text)["questions"] == []


def test_a_line_that_is_being_written_is_left_out(run):
  with open(run / "metrics.jsonl", "a") as file:
    file.write('{"iteration": 3, "be')
  (run / "results.json").unlink()
  assert len(records.read(run).history) == 3


def test_questions_are_gained_and_lost_where_the_scores_say_so(run):
  found = records.read(run)
  single = {row["index"]: row for row in found.test["best_single"]}
  shown, traced = sections.questions(found, 1 << 20)
  assert len(shown) == traced == 6
  for question in shown:
    other = single[question["index"]]["score"]
    expected = "gained" if question["score"] > other else "lost"
    assert question["change"] == ("" if question["score"] == other else expected)


def test_where_not_all_questions_fit_each_kind_has_its_share(run):
  found = records.read(run)
  for k, row in enumerate(found.test["system"]):
    row["score"] = float(k == 5)
  whole, _ = sections.questions(found, 1 << 20)
  room = sum(len(json.dumps(q)) for q in (whole[0], whole[1], whole[5]))
  shown, traced = sections.questions(found, room)
  assert [q["index"] for q in shown] == [0, 1, 5] and traced == 6


def test_arrows_are_thicker_where_replies_are_longer_and_alike_where_they_are(run):
  found = records.read(run)
  thick = lambda: set(
    re.findall(r'stroke-width="([\d.]+)" m', sections.graph(found)["svg"])
  )
  assert thick() == {"1.4"}
  for trace in found.traces:
    trace["nodes"][0]["tokens"][1] = 30
  assert thick() == {"1.4", "3.2"}


def test_what_nodes_do_is_told_by_the_proxy_of_the_analyses(run):
  """The first says nothing that can be read, the others answer for themselves."""
  found = records.read(run)
  found.traces[0]["nodes"][2]["reply"] = "part 1"  # what it heard
  does = sections.labels(found.traces)
  assert does[0] == [("irrelevant", 1.0)] and does[1] == [("divide", 1.0)]
  assert dict(does[2])["refine"] == 1 / 6
  assert "irrelevant 100 %" in pages.render(run)


def test_the_phases_of_a_run_add_up_to_what_it_spent(run):
  *rows, together = spending.cost(records.read(run))
  spend = json.loads((run / "results.json").read_text())["spend"]
  assert {field: together[field] for field in spend} == spend
  assert [row["name"] for row in rows][::3] == [
    "experts alone, first graphs",
    "final test",
  ]
  assert all(row["seconds"] >= row["asking"] >= 0 for row in rows)


def test_ablations_are_shown_where_they_were_measured_the_worst_first(run):
  (node, *_) = records.read(run).system["nodes"]
  rows = [
    {"node": node["id"], "score": s, "change": c, "low": c, "high": c}
    for s, c in ((0.4, -0.1), (0.1, -0.4))
  ]
  write_json(run / "ablations.json", {"full": 0.5, "n": 5, "nodes": rows, "edges": []})
  text = pages.render(run)
  assert f"without {node['expert']} (node" in text
  assert text.index("-0.400") < text.index("-0.100")


def test_a_page_that_cannot_be_written_is_a_warning_and_no_error(run, caplog):
  (run / "report.html.part").mkdir()
  with caplog.at_level("WARNING"):
    assert pages.try_write(run) is None
  assert "report.html could not be written, the results stand" in caplog.text


def test_a_folder_without_a_run_is_refused_by_name(tmp_path):
  with pytest.raises(ValueError, match=f"{tmp_path} holds no config.json"):
    pages.write(tmp_path)


def test_half_a_character_of_a_reply_does_not_stop_a_page(run):
  progress = json.loads((run / "results.json").read_text())
  progress["skipped_experts"] = {"x": "\ud83d"}
  (run / "results.json").write_text(json.dumps(progress))
  assert pages.write(run).stat().st_size > 10_000


def test_numbers_are_written_for_people():
  assert html_lib.number(None) == html_lib.number(float("nan")) == "–"
  assert html_lib.number(12345) == "12\u202f345" and html_lib.number(0.12345) == "0.123"
  assert [html_lib.seconds(s) for s in (4.21, 185, 7800)] == [
    "4.2 s",
    "3 min 05 s",
    "2 h 10 min",
  ]
  assert (
    html_lib.embedded("</script>&\u2028") == '"\\u003c/script\\u003e\\u0026\\u2028"'
  )


def _get(address, **headers):
  request = urllib.request.Request(address, headers=headers)
  with urllib.request.urlopen(request, timeout=10) as answer:
    return answer.read().decode()


def test_a_run_is_served_on_this_machine_and_its_page_grows_with_it(run):
  served = live.start(run, 0)
  try:
    assert served.address.startswith("http://127.0.0.1:")
    assert 'data-live="yes"' in _get(served.address)
    before = _get(f"{served.address}version")
    write_json(run / "progress.json", {"task": "grown"})
    assert _get(f"{served.address}version") != before
    (run / "results.json").unlink()
    assert "<h1>grown</h1>" in _get(served.address)
  finally:
    served.close()


def test_a_page_of_elsewhere_and_a_file_of_the_run_are_not_answered(run):
  served = live.start(run, 0)
  try:
    for path, host in (("", "evil.example:80"), ("config.json", None), ("../x", None)):
      headers = {"Host": host} if host else {}
      with pytest.raises(urllib.error.HTTPError, match="404"):
        _get(f"{served.address}{path}", **headers)
  finally:
    served.close()


def test_a_run_that_has_not_begun_is_waited_for(tmp_path):
  served = live.start(tmp_path, 0)
  try:
    assert "Not begun yet" in _get(served.address)
  finally:
    served.close()


def test_a_port_in_use_is_a_warning_and_the_search_goes_on(tmp_path, caplog):
  with socket.socket() as taken, caplog.at_level("WARNING"):
    taken.bind((live.HOST, 0))
    taken.listen()
    port = taken.getsockname()[1]
    assert live.start(tmp_path, port) is None
  assert f"--live={port} cannot be served" in caplog.text
  assert live.start(tmp_path, 1 << 20) is None
