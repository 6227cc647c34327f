"""The complete configuration; the fields stand in jswarm/wiring/defaults.py.

  python -m experiments.search --config=configs/default.py --config.task.name=gsm8k \
    --config.task.path=gsm8k.json --config.pool.experts="('a', 'b')" --workdir=runs/a
"""

from jswarm.wiring.defaults import get_config

__all__ = ["get_config"]
