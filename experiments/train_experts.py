"""Makes a pool of experts: LoRA SFT on a base, which may be trained from scratch.

python -m experiments.train_experts --config=configs/tiny_pool.py --out=pools/tiny
python -m experiments.train_experts --config=configs/smollm2_pool.py --out=pools/smollm2
"""

from absl import flags

from jswarm import cli
from jswarm.training import pool
from jswarm.wiring import training

_CONFIG = cli.define_config()
_OUT = flags.DEFINE_string("out", None, "Folder of the pool; made or continued.")


def main(argv):
  del argv
  rows = pool.train_pool(_OUT.value, **training.arguments(_CONFIG.value))
  print(f"{'expert':<16} {'dev score':>10} {'base':>8} {'dev loss':>9}")
  for row in rows:
    print(
      f"{row['name']:<16} {row.get('dev_score', float('nan')):>10.4f}"
      f" {row.get('base_score', float('nan')):>8.4f}"
      f" {(row['dev_loss'] or [float('nan')])[0]:>9.4f}"
    )


if __name__ == "__main__":
  cli.launch(main, "config", "out")
