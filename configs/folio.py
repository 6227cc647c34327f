"""The world folio: a text in ten leaves, of which a node reads one (docs/worlds.md).

  python -m experiments.search --config=configs/folio.py --workdir=runs/folio
  python -m experiments.search --config=configs/folio.py:abstain --workdir=runs/abstain
  python -m experiments.search --config=configs/folio.py:judged --workdir=runs/judged

Each of ten experts reads two of the ten hands, and who reads which leaf follows from
the graph. `abstain`: four options, and the system is asked again whether it is right;
effective reliability in [-1, 1]. `judged`: an expert rates the answers from 1 to 10.
"""

from jswarm.tasks.synthetic import folio
from jswarm.wiring.defaults import get_config as default


def get_config(variant: str = "plain"):
  config = default()
  config.update_from_flattened_dict(folio.fields(variant))
  config.task.dev_size = 100
  config.task.test_size = 1000
  config.search.iterations = 20
  config.role.patience = config.weight.patience = 20
  config.log.baselines = True
  return config
