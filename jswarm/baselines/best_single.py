"""The best expert alone: what any system of several has to beat."""

from jswarm.baselines.base import Found, Setting
from jswarm.systems import system


def best_single(setting: Setting) -> Found:
  """The expert with the greatest dev utility, as it came; the first of equal ones."""
  expert = setting.by_dev[0]
  return Found(
    system.single(expert, setting.first),
    float(setting.singles[expert]),
    notes={"expert": setting.experts.names[expert]},
  )
