"""Four experts on SmolLM2-135M-Instruct, sized for minutes an iteration on two cores.

  python -m experiments.download_model --model=smollm2-135m-instruct
  python -m experiments.train_experts --config=configs/smollm2_pool.py \
    --out=pools/smollm2
  python -m experiments.search --config=configs/nlgraph.py:smollm2 \
    --config.task.path=data/eval/nlgraph.json --workdir=runs/nlgraph

Small on purpose: N = 2 graphs, M = 2 assignments, 4 dev questions, 3 iterations, 100
test questions, replies of at most 32 tokens. What that gave, and how long it took,
stands in docs/measurements.md.
"""

from jswarm.wiring.defaults import get_config as default

NAMES = ("arithmetic", "choice", "extraction", "graph")


def get_config():
  config = default()
  config.pool.base = "models/smollm2-135m-instruct"
  config.pool.experts = tuple(f"pools/smollm2/experts/{name}" for name in NAMES)
  config.task.dev_size = 4
  config.task.test_size = 100
  config.task.limit = 32
  config.messages.reply_tokens = 32
  config.search.graphs = 2
  config.search.assignments = 2
  config.search.iterations = 3
  return config
