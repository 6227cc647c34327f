"""Many devices say what one says: rows, experts and tensors, on simulated devices."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from jswarm.distributed import devices
from jswarm.model import decoder
from tests import tiny

ONE, EIGHT = {"devices": 1}, {"devices": 8}  # 10 experts on 8 devices
THREE, TENSOR = {"devices": 3}, {"devices": 8, "tensor": 2}


def _python(code, *arguments):
  run = subprocess.run(
    [sys.executable, *code, *arguments],
    capture_output=True,
    text=True,
    timeout=600,
    env={**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"},
  )
  assert run.returncode == 0, run.stderr[-3000:]
  return run.stdout


@pytest.fixture(scope="module")
def said():
  places = [json.dumps(p) for p in (ONE, EIGHT, THREE, TENSOR)]
  return json.loads(_python(["-m", "tests.devices_run"], *places))


@pytest.mark.slow
@pytest.mark.parametrize("place", [1, 2, 3], ids=["eight", "three", "tensor"])
@pytest.mark.parametrize("kind", ["lora", "masked", "full"])
def test_many_devices_say_what_one_says(said, kind, place):
  assert said[place][kind] == said[0][kind]


_SELECTION = """
import jax, jax.numpy as jnp, numpy as np, re
from jswarm.distributed import devices
from jswarm.swarm import pso
from jswarm.swarm.motion import Settings
replicas = devices.Replicas()
x = {"w": jax.random.normal(jax.random.key(0), (16, 64, 8))}
u = jax.random.normal(jax.random.key(1), (16,))
plain = pso.start(jax.random.key(2), x, u, Settings())
spread = plain.replace(**{n: replicas.spread(getattr(plain, n))
                          for n in ("position", "velocity", "best_position")})
assert len(spread.position["w"].sharding.device_set) == 8
tell = jax.jit(pso.tell)
text = tell.lower(spread, u + 1).compile().as_text()
assert re.search(r"f32\\[64,8\\].* all-reduce\\(", text)  # one particle
gathered = re.findall(r"= \\w+\\[([\\d,]+)\\]\\S* all-gather\\(", text)
assert gathered and all(shape in ("8", "16") for shape in gathered), gathered
told = (jax.tree.leaves(tell(swarm, u + 1)) for swarm in (spread, plain))
for a, b in zip(*told):
  np.testing.assert_array_equal(a, b)
assert len(replicas.spread({"w": jnp.zeros((10, 3))})["w"].sharding.device_set) == 5
"""


@pytest.mark.slow
def test_best_and_worst_of_spread_particles_are_chosen_without_gathering_them():
  _python(["-c", _SELECTION])


_RESUME = """
import tempfile
import jax, jax.numpy as jnp, numpy as np
from jswarm.engine import engine
from jswarm.run.checkpoint import Checkpoints
from jswarm.swarm import pso
from jswarm.swarm.state import blank, template
from jswarm.wiring import config
from tests import tiny
experts = engine.make_experts(tiny.pool(tiny.full_group(10)), tiny.settings(devices=8))
settings = config.resolve_default({}).swarm
state = blank(experts, settings)
saved = Checkpoints(tempfile.mkdtemp())
saved.save(1, state, {})
_, again, _ = saved.restore(template(experts, settings))
swarm = again.weight[0]
for name in ("position", "velocity", "best_position"):
  for leaf in jax.tree.leaves(getattr(swarm, name)):
    assert len(leaf.sharding.device_set) == 5, (name, leaf.sharding)
for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(again)):
  np.testing.assert_array_equal(a, b)
move = lambda state: pso.tell(pso.ask(jax.random.key(1), state, settings.weight),
                              jnp.arange(10.0))
for a, b in zip(*(jax.tree.leaves(move(s.weight[0])) for s in (state, again))):
  np.testing.assert_array_equal(a, b)
"""


@pytest.mark.slow
def test_spread_particles_are_spread_again_after_a_resume():
  _python(["-c", _RESUME])


_LARGE = """
import jax
from jswarm.engine import resident
from tests import devices_run, tiny
group = tiny.lora_group(10)
say = lambda **place: devices_run.said(tiny.pool(group), 10, **place)
for place in ({"devices": 8}, {"devices": 8, "tensor": 2}):
  for form in ("grouped", "merged"):
    resident._large = lambda particles, replicas: False
    wanted = say(form=form, **place)
    resident._large = lambda particles, replicas: True
    assert say(form=form, **place) == wanted
"""


@pytest.mark.slow
def test_adapters_too_large_for_one_device_are_spread_and_say_the_same():
  _python(["-c", _LARGE])


_HELD = """
import jax, numpy as np
from jswarm.distributed import devices
replicas, read = devices.Replicas(), []
one = lambda i: (read.append(i), np.full((2, 3), i, np.float32))[1]
x = replicas.stack((12, 2, 3), one)
assert len(x.sharding.device_set) == 6 and sorted(read) == list(range(12))
assert {s.data.shape for s in x.addressable_shards} == {(2, 2, 3)}
np.testing.assert_array_equal(devices.particle({"w": x}, 5)["w"], np.full((2, 3), 5))
assert devices.holders(x) == [()] * 12  # this process holds all
assert isinstance(replicas.stack((1, 2, 3), one), np.ndarray)
assert isinstance(devices.Replicas(jax.devices()[:1]).stack((4, 2, 3), one), np.ndarray)

class Device:  # of processes that are not there
  def __init__(self, id, process_index):
    self.id, self.process_index, self.platform = id, process_index, "cpu"

def over(size, processes, each):
  all_of_them = [Device(each * p + d, p) for p in range(processes)
                 for d in range(each)]
  chosen = devices.order(size, all_of_them)
  return [[d.process_index for d in row] for row in chosen]

assert over(10, 2, 4) == [[0], [1], [0], [1], [0]]  # two models a device
assert over(4, 2, 1) == [[0], [1]]
assert over(7, 2, 1) == []  # each process holds all
assert over(2, 4, 1) == [[0, 2], [1, 3]]  # and copies, so that all take part
assert over(10, 16, 8)[0] == [0, 10] and len(over(10, 16, 8)) == 10
"""


@pytest.mark.slow
def test_whole_models_go_to_so_many_devices_as_divide_them_each_process_in_turn():
  _python(["-c", _HELD])


def test_a_tensor_split_that_does_not_fit_says_which_field():
  with pytest.raises(ValueError, match="tensor=4.*kv_heads=2"):
    devices.tensor_config(tiny.CONFIG, 4)
  with pytest.raises(ValueError, match="tensor=3 does not divide 1 devices"):
    devices.Replicas(jax.devices()[:1], tensor=3)


def test_what_makes_heads_is_split_by_output_and_what_reads_them_by_input():
  specs = devices.tensor_specs(tiny.base())
  spec = jax.sharding.PartitionSpec
  assert specs["layers"]["attn"]["q"]["kernel"] == spec(None, None, "tensor")
  assert specs["layers"]["mlp"]["down"]["kernel"] == spec(None, "tensor", None)
  assert specs["embed"] == spec(None, None)
  adapters = devices.tensor_specs(
    {
      "q": {"A": jnp.zeros((2, 4, 3)), "B": jnp.zeros((2, 3, 4))},
      "o": {"A": jnp.zeros((2, 4, 3)), "B": jnp.zeros((2, 3, 4))},
    }
  )
  turned = devices.tensor_specs(decoder.unstack(tiny.base()))["layers"][0]
  assert turned["attn"]["q"]["kernel_t"] == spec("tensor", None)
  assert turned["mlp"]["down"]["kernel_t"] == spec(None, "tensor")
  assert adapters["q"] == {"A": spec(None, None, None), "B": spec(None, None, "tensor")}
  assert adapters["o"] == {"A": spec(None, "tensor", None), "B": spec(None, None, None)}


_LOADING = """
import sys, tempfile
import jax, numpy as np
from jswarm.distributed import devices
from jswarm.formats import hf_model
from tests import tiny
folder = tempfile.mkdtemp()
hf_model.save_base(folder, tiny.CONFIG, tiny.base())
replicas = devices.Replicas(jax.devices()[:2], tensor=2)
_, params = hf_model.load_base(folder, place=replicas.place)
whole = tiny.base()
specs = devices.tensor_specs(whole)
for a, b, s in zip(jax.tree.leaves(params), jax.tree.leaves(whole),
                   jax.tree.leaves(specs, is_leaf=lambda s: isinstance(s, tuple))):
  np.testing.assert_array_equal(a, b)
q = params["layers"]["attn"]["q"]["kernel"]
assert {shard.data.shape for shard in q.addressable_shards} == {(2, 32, 16)}
again = replicas.share(params, specs)["layers"]["attn"]["q"]["kernel"]
assert [s.data.unsafe_buffer_pointer() for s in again.addressable_shards] == [
    s.data.unsafe_buffer_pointer() for s in q.addressable_shards], "copied once more"
"""


@pytest.mark.slow
def test_a_base_is_loaded_in_parts_each_to_its_device():
  _python(["-c", _LOADING])
