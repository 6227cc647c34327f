"""The complete configuration; the fields stand in jswarm/default_config.py.

  python -m experiments.search --config=configs/default.py --config.task.name=gsm8k \
    --config.task.path=gsm8k.json --config.pool.experts="('a', 'b')" --workdir=runs/a
"""

from jswarm.default_config import get_config

__all__ = ["get_config"]
