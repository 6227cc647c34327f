"""The paper's setting: ten adapters on gemma-7b-it, N = M = 10, p = 0.8, patience 6.

  python -m experiments.search --config=configs/gsm8k.py:gemma_7b \
    --config.task.path=data/eval/gsm8k.json --workdir=runs/gsm8k

Calls (D_dev = 200, D_test = 1000, n = 10, T = 20). Nominal, (T+1)(N+M) n D_dev =
21 x 20 x 10 x 200 = 840,000 on dev, 2,000 for the experts alone, 21,000 on test.
`fixed` adds the best graph on the weights of the moment (20 x 2,000; half of them
known from the weight-step) and, when that graph changes, one more set of
assignments (20,000 each time). Identical calls are made once.

Memory, bf16 base, float32 particles:
  base 8.54 G parameters x 2 B                                     17.1 GB
  ten rank-16 adapters on all seven projections, 50.0 M each x 4 B   2.0 GB
  served copy of them in bf16                                        1.0 GB
  KV cache: 28 layers x 2 x 16 heads x 256 x 2 B = 459 KB a token
    256 rows x 512 tokens                                           60.1 GB
  logits 256 x 256,000 x 4 B                                         0.3 GB
  the swarm: positions, velocities, personal bests, the best, the initial
    and the given experts (6 copies of all ten) and two single ones  12.4 GB
One H200 (141 GB): about 93 GB, so rows = 256 with room for prefill; rows = 384 is
the limit at 512 tokens. One TPU v5e-8 (8 x 16 GB): the base alone exceeds a chip
(engine.tensor=2); over two chips it is 8.6 GB a chip. The swarm's copies are spread
over five chips, 2.5 GB each. That leaves about 3.5 GB for 2 x 3.5 GB / 459 KB = 15,000
tokens, 29 rows of 512 tokens, in each of four such pairs: about 120 rows.
These figures are arithmetic; nothing here was run on either.
"""

from jswarm.wiring.defaults import get_config as default

NAMES = (
  "code_alpaca",
  "cot",
  "flan_v2",
  "gemini_alpaca",
  "lima",
  "oasst1",
  "open_orca",
  "science",
  "sharegpt",
  "wizardlm",
)


def get_config():
  config = default()
  config.pool.base = "google/gemma-7b-it"
  config.pool.experts = tuple(
    {"name": name, "path": f"initial_experts/{name}"} for name in NAMES
  )
  config.pool.dtype = "bfloat16"
  config.engine.rows = 256
  config.engine.pack_tokens = 8192
  return config
