"""Data merge: one expert that is trained on the records of all."""

from jswarm.baselines.base import Found, Setting
from jswarm.systems import system


def data_merge(setting: Setting) -> Found:
  """One expert on the base of the first, trained on all records together.

  Each record counts once, so that an expert with more of them weighs more. Options:
  `matched` (False), in as many updates as one expert had instead of in as many epochs.
  """
  matched = bool(setting.option("matched", False))
  pool, alone = setting.lend("train")(matched), system.single(0)
  return Found(alone, setting.dev(alone, pool), pool, {"matched": matched})
