"""The model card of a saved system, in the form that the Hugging Face hub reads.

described system, experts, scores -> README.md: YAML, drawing, how to load it
"""

from collections.abc import Mapping
import json
import pathlib
import re
from typing import Any

from jswarm.core.files import clean
from jswarm.systems import drawing

_Z = 1.96  # of a 95 % interval
_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")  # what the hub takes for a repository
TAGS = ["multi-llm", "swarm", "lora"]


def card(
  described: Mapping[str, Any],
  stored: Mapping[str, Mapping[str, Any]],
  context: Mapping[str, Any],
) -> str:
  """README.md of a system.

  Args:
    described: of `artifact.describe`. stored: its experts as they are saved.
    context: task, and scores on dev and test, as in results.json; any may be missing.
  """
  test = context.get("test") or {}
  body = [
    "# A multi-LLM system",
    "",
    f"Found by jswarm in iteration {described['iteration']}"
    f" ({described['step']}-step), dev utility {described['dev']:.4f}.",
    "",
    "```mermaid",
    drawing.mermaid(described).rstrip(),
    "```",
    "",
    f"Bases: {', '.join(bases(stored)) or 'none, its experts are whole models'}.",
    "",
    *_scores(test),
    "## Load it",
    "",
    "```python",
    "import jswarm",
    'system = jswarm.load_system("this/folder")',
    'system.generate(["..."])',
    "```",
    "",
    "Where a base lies elsewhere: `jswarm.load_system(folder, base=...)`. Each adapter",
    "in `experts/` also loads alone, in PEFT, or in vLLM through `--lora-modules`.",
    "",
    "```json",
    json.dumps(clean(dict(context)), indent=2),
    "```",
    "",
  ]
  return "\n".join(["---", _front(stored, context, test).rstrip(), "---", "", *body])


def expert_card(name: str, base: str) -> str:
  """README.md of one adapter, so that its folder stands alone."""
  fields = {"library_name": "peft", "base_model": base, "tags": ["lora"]}
  return f"---\n{_yaml(fields)}---\n\n# {name}\n\nOne expert of a multi-LLM system.\n"


def bases(stored: Mapping[str, Mapping[str, Any]]) -> list[str]:
  """The bases of the experts, each once."""
  return sorted({entry.get("base", "") for entry in stored.values()} - {""})


def _front(stored, context, test):
  """The YAML in front: what the hub shows, and its model index."""
  fields: dict[str, Any] = {"library_name": "jswarm", "tags": TAGS}
  if named := list(filter(_ID.fullmatch, bases(stored))):
    fields["base_model"] = named
  task = context.get("task")
  if task and _ID.fullmatch(task):
    fields["datasets"] = [task]
  row = test.get("system") or {}
  if task and row.get("score") is not None:
    fields["model-index"] = [{"name": "system", "results": [_result(task, row)]}]
  return _yaml(fields)


def _result(task, row):
  metric = {"type": "score", "name": "mean score", "value": row["score"]}
  if row.get("stderr") is not None:
    metric["args"] = {"n": row["n"], "confidence_interval_95": _interval(row)}
  return {
    "task": {"type": "text-generation"},
    "dataset": {"name": task, "type": pathlib.PurePath(task).name, "split": "test"},
    "metrics": [metric],
  }


def _scores(test):
  """A table of who scored what on test; nothing where nothing was tested."""
  if not test:
    return []
  lines = ["| on test | score | 95 % interval | questions |", "|---|---|---|---|"]
  for name, row in test.items():
    score = "-" if row.get("score") is None else f"{row['score']:.4f}"
    reach = "-"
    if row.get("stderr") is not None:
      reach = "{:.4f} to {:.4f}".format(*_interval(row))
    lines.append(f"| {name} | {score} | {reach} | {row.get('n', '-')} |")
  return [*lines, ""]


def _interval(row):
  reach = _Z * row["stderr"]
  return [round(row["score"] - reach, 4), round(row["score"] + reach, 4)]


def _yaml(fields):
  import yaml  # here: what saves no system does without

  return yaml.safe_dump(clean(fields), sort_keys=False, allow_unicode=True)
