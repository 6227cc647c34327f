"""A finished run's directory as a search leaves it, written by hand."""

from jswarm.core.files import write_json, write_jsonl
from jswarm.systems.scores import paired_bootstrap, summary

NAMES = ("ada", "bea", "cyd")
SYSTEM = {
  "nodes": [
    {"id": 0, "expert": "ada", "depth": 0},
    {"id": 1, "expert": "bea", "depth": 1},
    {"id": 2, "expert": "cyd", "depth": 2},
  ],
  "edges": [[0, 1], [0, 2], [1, 2]],
  "topological_order": [0, 1, 2],
  "end": 2,
  "dev": 0.75,
  "iteration": 2,
  "step": "role",
}
TEST = {
  "system": [1.0, 1.0, 0.0, 1.0, 0.0, 1.0],
  "best_single": [1.0, 0.0, 1.0, 0.0, 0.0, 1.0],
  "random_search": [1.0, 0.0, 0.0, 0.0, 0.0, 1.0],
}


def write(folder):
  """Writes the files that a page reads; gives the folder."""
  for part in ("evals", "best"):
    (folder / part).mkdir(parents=True, exist_ok=True)
  history = [_row(t) for t in range(3)]
  singles = dict(zip(NAMES, (0.25, 0.5, 0.0)))
  fields = {"search.iterations": 2, "budget.calls": 0, "budget.tokens": 5000}
  write_json(folder / "config.json", {**fields, "messages.last": "Answer."})
  write_json(folder / "manifest.json", _manifest())
  write_jsonl(folder / "metrics.jsonl", history)
  write_jsonl(folder / "timing.jsonl", _timing())
  progress = {"iteration": 2, "iterations": 2, "task": "canned", "system": SYSTEM}
  write_json(folder / "progress.json", {**progress, "singles_dev": singles})
  write_json(folder / "results.json", _results(history, singles))
  write_jsonl(folder / "evals" / "test.jsonl", _tested())
  write_jsonl(folder / "evals" / "traces.jsonl", [_trace(x) for x in range(6)])
  write_json(folder / "evals" / "random.json", {"utilities": [0.2, 0.5, None, 0.4]})
  experts = {
    n: {"kind": "lora", "path": f"experts/{n}", "base": "some/base"} for n in NAMES
  }
  saved = {"schema_version": 1, **SYSTEM, "experts": experts, "limit": 8, "chat": False}
  write_json(folder / "best" / "jswarm_system.json", saved)
  return folder


def _spent(scale):
  return {
    "calls": 100 * scale,
    "made": 60 * scale,
    "prompt_tokens": 900 * scale,
    "new_tokens": 200 * scale,
  }


def _row(t):
  return {
    "iteration": t,
    "best": 0.5 + 0.125 * t,
    "stalled": 0,
    "systems": 2,
    **_spent(t + 1),
    "role/mean": 0.3 + 0.1 * t,
    "role/min": 0.1,
    "role/max": 0.5 + 0.125 * t,
    "role/distinct": 3 - t,
    "weight/mean": 0.4,
    "weight/jfk": [0.2, 0.1 * t, 0.3],
    "weight/jfk_noise": 0.05,
  }


def _manifest():
  versions = {"python": "3.11", "jswarm": "0.1.0", "jax": "0.10.2"}
  return {"versions": versions, "platform": "here", "devices": "1 cpu", "processes": 1}


def _timing():
  rows = [("begin", -1, 0.0), ("iteration", 0, 3.0), ("iteration", 1, 4.5)]
  rows += [("iteration", 2, 6.0), ("test", 2, 7.0)]
  return [
    {"phase": phase, "iteration": t, "at": 1000 + 2 * asking, "asking": asking}
    for phase, t, asking in rows
  ]


def _results(history, singles):
  return {
    "schema_version": 1,
    "task": {"name": "canned"},
    "seed": 0,
    "finish_reason": "max_iterations",
    "iterations": 2,
    "dev": {"system": 0.75, "initial": 0.5, "best_single": 0.5},
    "test": {name: summary(scores) for name, scores in TEST.items()},
    "best_single": "bea",
    "singles_dev": singles,
    "system_vs_best_single": paired_bootstrap(TEST["system"], TEST["best_single"]),
    "system": SYSTEM,
    "spend": _spent(4),
    "failures": 1,
    "rolled_back": 0,
    "history": history,
    "timing": {"seconds": 14.0, "seconds_asking": 7.0, "finished": "2026-01-01"},
  }


def _tested():
  return [
    {"system": name, "index": x, "id": f"q{x}", "score": s, "reply": f"{name} says {x}"}
    for name, scores in TEST.items()
    for x, s in enumerate(scores)
  ]


def _trace(x):
  heard = {node["id"]: [] for node in SYSTEM["nodes"]}
  for i, j in SYSTEM["edges"]:
    heard[j].append(i)
  nodes = [
    {
      "node": node["id"],
      "expert": node["expert"],
      "heard": heard[node["id"]],
      "prompt": f"prompt {x} of {node['expert']}",
      "reply": f"system says {x}" if node["id"] == 2 else f"part {node['id']}",
      "answers": node["id"] != 0,
      "tokens": [10 + node["id"], 3],
    }
    for node in SYSTEM["nodes"]
  ]
  question = f"What is number {x}?"
  return {
    "index": x,
    "id": f"q{x}",
    "question": question,
    "gold": str(x),
    "nodes": nodes,
  }
