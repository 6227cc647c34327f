"""The page in a browser: filters, search, traces, keys, phone and night.

Skipped where playwright or Chromium is missing: `pip install playwright`, and a
`chromium` on the path (or `playwright install chromium`).
"""

import json
import shutil

import pytest

from jswarm.core.files import write_jsonl
from jswarm.report import live, pages
from tests.report import canned

pytestmark = pytest.mark.slow
EVIL = '</script><img src=x onerror="window.harmed = true"><b>bold</b>'


@pytest.fixture(scope="module")
def chromium():
  playwright = pytest.importorskip("playwright.sync_api")
  path = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
  with playwright.sync_playwright() as library:
    try:
      # A container's root may not have the sandbox; the page is our own.
      browser = library.chromium.launch(executable_path=path, args=["--no-sandbox"])
    except playwright.Error as error:
      pytest.skip(f"no Chromium can be started: {error.message.splitlines()[0]}")
    yield browser
    browser.close()


@pytest.fixture
def run(tmp_path):
  return canned.write(tmp_path / "run")


@pytest.fixture
def opened(chromium, run):
  """A function that opens the report of the run; nothing may go wrong in it."""
  wrong, contexts = [], []

  def open_page(address=None, **fields):
    context = chromium.new_context(**fields)
    contexts.append(context)
    page = context.new_page()
    page.on(
      "console", lambda m: m.type in ("error", "warning") and wrong.append(m.text)
    )
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(address or pages.write(run).as_uri())
    return page

  yield open_page
  for context in contexts:
    context.close()
  assert wrong == []


def _listed(page):
  return page.locator("#list button").count()


def test_filters_show_what_they_say(opened):
  page = opened()
  assert _listed(page) == 6
  for kind, count in (
    ("right", 4),
    ("wrong", 2),
    ("gained", 2),
    ("lost", 1),
    ("all", 6),
  ):
    page.check(f"input[value={kind}]")
    assert _listed(page) == count, kind
    assert page.inner_text("#count") == f"{count} of 6 questions."


def test_a_search_finds_words_of_questions_prompts_and_replies(opened):
  page = opened()
  for words, count in (
    ("number 3", 1),
    ("PROMPT bea", 6),
    ("system says 4", 1),
    ("zz", 0),
  ):
    page.fill("#words", words)
    assert _listed(page) == count, words


def test_a_question_shows_each_node_with_its_prompt_and_reply(opened):
  page = opened()
  page.click("#list li:nth-child(2) button")
  told = page.inner_text("#trace")
  assert "Question q1" in told and "Right, score 1" in told and "gained" in told
  assert "best_single says 1" in told
  page.click("#trace summary >> nth=1")
  assert page.locator("#trace pre >> text=prompt 1 of bea").is_visible()
  page.reload()
  assert "Question q1" in page.inner_text("#trace")  # the address names it


def test_the_page_works_with_keys_alone(opened):
  page = opened()
  page.keyboard.press("Tab")
  assert page.evaluate("document.activeElement.className") == "skip"
  page.focus("#list button")
  page.keyboard.press("ArrowDown")
  page.keyboard.press("Enter")
  assert "Question q1" in page.inner_text("#trace")
  assert page.evaluate("document.activeElement.id") == "trace"
  page.keyboard.press("Tab")
  assert page.evaluate("document.activeElement.tagName") == "PRE"


def test_what_a_model_wrote_is_shown_as_text_and_never_run(opened, run):
  path = run / "evals" / "traces.jsonl"
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  for row in rows:
    row["question"] = row["gold"] = row["nodes"][0]["reply"] = EVIL
  write_jsonl(path, rows)
  page = opened()
  page.click("#list button >> nth=0")
  assert EVIL in page.inner_text("#trace")
  assert page.locator("#trace img, #trace b, #list img").count() == 0
  assert page.evaluate("window.harmed") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_without_scrolling_sideways(opened, scheme):
  phone = {"width": 360, "height": 740}
  page = opened(viewport=phone, color_scheme=scheme)
  page.click("#list button >> nth=0")
  assert page.evaluate("document.documentElement.scrollWidth") <= 360
  back = page.evaluate("getComputedStyle(document.body).backgroundColor")
  assert (back == "rgb(255, 255, 255)") == (scheme == "light")


def test_without_javascript_all_but_the_questions_is_there(opened):
  page = opened(java_script_enabled=False)
  told = page.inner_text("main")
  assert "best single expert" in told and "Filters and traces need JavaScript" in told


def test_a_live_page_follows_the_run(opened, run):
  (run / "results.json").unlink()
  served = live.start(run, 0)
  try:
    page = opened(served.address)
    assert "iteration 2 of 2" in page.inner_text("header")
    page.wait_for_timeout(500)  # it has asked for the version once
    progress = json.loads((run / "progress.json").read_text())
    (run / "progress.json").write_text(json.dumps({**progress, "iterations": 9}))
    page.wait_for_selector("text=iteration 2 of 9", timeout=15_000)
  finally:
    served.close()
