"""A configuration whose pool may hold experts that are refused -> one without them."""

from typing import NamedTuple

from absl import logging
from ml_collections import ConfigDict

from jswarm.pool import load
from jswarm.pool import sound as sound_lib
from jswarm.wiring import config as config_lib


class Settled(NamedTuple):
  """What a search is made of.

  Attributes:
    config: names only experts that can be loaded.
    skipped: {name: what is wrong with it} of the others.
    checked: what the check has found of those that are left; None: nobody has looked.
  """

  config: ConfigDict
  skipped: dict[str, str]
  checked: load.Checked | None


def settle(config: ConfigDict) -> Settled:
  """With pool.skip_bad: without the experts that are refused, each with a warning.

  Raises:
    ValueError: a field is wrong, or no expert is left; as `pool.sound`.
  """
  pool = config_lib.resolve(config).pool
  if not pool.skip_bad:
    return Settled(config, {}, None)
  found = sound_lib.sound(
    pool.experts, pool.base, pool.allow_pickle, pool.today, pool.thinking
  )
  for name, why in found.skipped.items():
    logging.warning("without the expert %s, which is refused: %s", name, why)
  if found.skipped:
    config = config_lib.override(config, {"pool.experts": found.experts})
  return Settled(config, found.skipped, found.checked)
