"""What a tiny pool says on some placement of devices, in a process of its own.

  JAX_NUM_CPU_DEVICES=8 python -m tests.devices_run '{"devices": 8, "tensor": 2}' ...

Prints a JSON list, for each placement: what every kind of pool said.
"""

import json
import sys

from jswarm.core.types import Request
from jswarm.engine import engine
from tests import tiny

WORDS = "the quick brown fox jumps over a lazy dog and runs far away".split()


def prompts(count):
  """Ragged prompts."""
  return [" ".join(WORDS[i % 5 : i % 5 + 1 + i % 8]) + str(i) for i in range(count)]


def said(pool, experts, **settings):
  served = engine.make_experts(pool, tiny.settings(**settings))
  requests = [Request(i % experts, p, 4 + i % 5) for i, p in enumerate(prompts(26))]
  first = [reply.text for reply in served.ask(requests)]
  return first


def placement(**settings):
  return {
    "lora": said(tiny.pool(tiny.lora_group(10)), 10, **settings),
    "masked": said(tiny.pool(tiny.lora_group(3)), 3, form="masked", **settings),
    "full": said(tiny.pool(tiny.full_group(10)), 10, **settings),
  }


if __name__ == "__main__":
  print(json.dumps([placement(**json.loads(a)) for a in sys.argv[1:]]))
