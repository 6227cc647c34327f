"""The result of a run as a small table."""

from jswarm.run import Result

LABELS = {"best_single": "best single expert", "initial": "initial best DAG",
          "star": "star", "chain": "chain", "random": "random DAG",
          "system": "found system"}


def table(result: Result) -> str:
  """Test score of the found system beside what it has to beat."""
  test = result.results["test"]
  lines = [f"{'test':<20} {'score':>7} {'stderr':>7} {'n':>5}"]
  for name, label in LABELS.items():
    if name in test:
      row = test[name]
      lines.append(f"{label:<20} {_number(row['score'])} {_number(row['stderr'])}"
                   f" {row['n']:>5}")
  paired = result.results["system_vs_best_single"]
  if paired:
    lines.append(f"found - best single: {paired['difference']:+.4f}, 95 % interval"
                 f" [{paired['low']:+.4f}, {paired['high']:+.4f}], p = {paired['p']:.4f}")
  return "\n".join(lines)


def _number(value):
  return f"{value:7.4f}" if value is not None else f"{'-':>7}"
