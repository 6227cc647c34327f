"""Which modules an adapter has, and how large they are: the answers of peft itself."""

import itertools
import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import safetensors.numpy

from jswarm.formats import peft_adapter, peft_targets
from jswarm.model.architecture import PROJECTIONS, DecoderConfig, projection_shapes

CONFIG = DecoderConfig(
  vocab=37,
  width=16,
  layers=3,
  heads=4,
  kv_heads=2,
  head_dim=4,
  hidden=24,
)
PLACES = list(itertools.product(PROJECTIONS, range(CONFIG.layers)))
UNSLOTH = (
  r"(?:.*?(?:language|text).*?(?:self_attn|mlp).*?(?:q_proj|down_proj).*?)|"
  r"(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\.(?:(?:q_proj|down_proj)))"
)


def _module(name, layer, prefix="model."):
  part = "self_attn" if PROJECTIONS[name] == "attn" else "mlp"
  return f"{prefix}layers.{layer}.{part}.{name}_proj"


def _write(folder, places=None, prefix="model.", ranks=None, **fields):
  """An adapter of ones with factors at `places` alone, under a config of `fields`."""
  shapes, tensors = projection_shapes(CONFIG), {}
  for name, layer in PLACES if places is None else places:
    stem = f"base_model.model.{_module(name, layer, prefix)}.lora"
    inside, outside = shapes[name]
    r = (ranks or {}).get((name, layer), 2)
    tensors[f"{stem}_A.weight"] = np.ones((r, inside), np.float32)
    tensors[f"{stem}_B.weight"] = np.ones((outside, r), np.float32)
  folder.mkdir(parents=True, exist_ok=True)
  safetensors.numpy.save_file(tensors, folder / "adapter_model.safetensors")
  base = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": "all-linear"}
  (folder / "adapter_config.json").write_text(json.dumps(base | fields))
  return folder


def _load(folder):
  return peft_adapter.load_adapter(folder, CONFIG)


def _scales(adapter, name):
  return [float(adapter[name]["B"][i].max()) for i in range(CONFIG.layers)]


NAMES = st.sampled_from(
  ["q_proj", "v_proj", "down_proj", "self_attn.q_proj", "lm_head", "proj", "mlp"]
  + [_module("q", 1), _module("up", 0), "layers.2.mlp.up_proj"]
)
PATTERNS = st.sampled_from(
  [r".*\.(q|v)_proj", r".*layers\.[02]\..*", r"q_proj", "ALL-linear", UNSLOTH]
)
SELECTIONS = st.fixed_dictionaries(
  {"target_modules": st.one_of(st.lists(NAMES, min_size=1, max_size=4), PATTERNS)},
  optional={
    "exclude_modules": st.one_of(st.lists(NAMES, max_size=2), PATTERNS),
    "layers_to_transform": st.one_of(
      st.integers(0, 3), st.lists(st.integers(0, 4), max_size=3)
    ),
    "layers_pattern": st.sampled_from(["layers", ["layers"], ["blocks", "layers"], []]),
  },
)
PREFIXES = st.sampled_from(list(peft_targets.PREFIXES))


@given(SELECTIONS, PREFIXES)
@settings(deadline=None, max_examples=300)
def test_a_module_is_selected_where_peft_would_select_it(fields, prefix):
  tuners_utils = pytest.importorskip("peft.tuners.tuners_utils")
  config = type("Config", (), {"target_parameters": None, **fields})
  targets = fields["target_modules"]
  if isinstance(targets, str) and targets.lower() == "all-linear":
    names = [_module(name, i, prefix) for name, i in PLACES]
    config.target_modules = set(names)  # as _maybe_include_all_linear_layers does
  for module in peft_targets.modules(CONFIG, prefix):
    wanted = bool(tuners_utils.check_target_module_exists(config, module))
    assert peft_targets.selects(fields, module) == wanted, module


KEYS = st.sampled_from(
  [
    "q_proj",
    "proj",
    "self_attn.q_proj",
    r"layers\.0\..*",
    ".*v_proj",
    "^model.layers.1",
  ]
  + [
    _module("q", 1),
    "^" + _module("q", 0),
    r"model\.language_model\..*",
    "q_proj|v_proj",
  ]
)


@given(st.dictionaries(KEYS, st.integers(1, 9), max_size=3), PREFIXES)
@settings(deadline=None, max_examples=300)
def test_patterns_of_ranks_and_alphas_fit_what_they_fit_in_peft(patterns, prefix):
  other = pytest.importorskip("peft.utils.other")
  fields = {
    "r": 4,
    "lora_alpha": 6,
    "rank_pattern": patterns,
    "alpha_pattern": patterns,
  }
  scale = peft_targets.Scales(fields)
  for module in peft_targets.modules(CONFIG, prefix):
    value = patterns.get(other.get_pattern_key(patterns.keys(), module))
    assert scale(module) == (value or 4, (value or 6) / (value or 4))


@pytest.mark.parametrize("prefix", peft_targets.PREFIXES)
def test_a_full_name_scales_its_module_wherever_the_trunk_lies(prefix, tmp_path):
  """As peft does for a text model in a larger one: layer 0 by 64, not the others."""
  first = _module("q", 0, prefix)
  for i, pattern in enumerate((first, f"^{first}", re.escape(first))):
    folder = _write(tmp_path / str(i), prefix=prefix, alpha_pattern={pattern: 128})
    assert _scales(_load(folder), "q") == [64.0, 1.0, 1.0]
  ranked = _write(
    tmp_path / "ranked",
    prefix=prefix,
    ranks={("q", 0): 1},
    rank_pattern={first: 1},
    alpha_pattern={first: 8},
  )
  assert _scales(_load(ranked), "q") == [8.0, 1.0, 1.0]


def test_rslora_divides_by_the_root_of_the_modules_own_rank(tmp_path):
  folder = _write(
    tmp_path,
    ranks={("q", 0): 4},
    rank_pattern={"model.layers.0.self_attn.q_proj": 4},
    lora_alpha=8,
    use_rslora=True,
  )
  np.testing.assert_allclose(_scales(_load(folder), "q"), [4, 32**0.5, 32**0.5])


Q, V = ("q_proj", "v_proj")
LOST = {
  "a layer in the middle": (lambda n, i: i != 1, {}, r"7 modules.*layers\.1\."),
  "a projection everywhere": (
    lambda n, i: n != "v",
    {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
                        "down_proj"]},
    r"3 modules.*v_proj",
  ),
  "a projection of one layer": (
    lambda n, i: (n, i) != ("v", 0),
    {},
    r"1 modules.*layers\.0\.self_attn\.v_proj",
  ),
  "all but one module": (lambda n, i: (n, i) == ("down", 2), {}, "20 modules.*has 1"),
  "a layer of a pattern": (
    lambda n, i: n == "q" and i != 1,
    {"target_modules": r".*\.q_proj"},
    r"1 modules.*layers\.1\.self_attn\.q_proj",
  ),
  "a chosen layer": (
    lambda n, i: i == 0,
    {"target_modules": [Q], "layers_to_transform": [0, 2]},
    r"1 modules.*layers\.2",
  ),
  "a full name": (
    lambda n, i: (n, i) == ("q", 0),
    {"target_modules": [_module("q", 0), _module("up", 2)]},
    r"1 modules.*layers\.2\.mlp\.up_proj",
  ),
  "the head": (
    lambda n, i: n == "q",
    {"target_modules": [Q, "lm_head"]},
    r"1 modules.*'lm_head'",
  ),
}  # fmt: skip


@pytest.mark.parametrize("what", LOST)
def test_a_promised_module_that_is_not_in_the_file_is_named(what, tmp_path):
  keep, fields, message = LOST[what]
  places = [p for p in PLACES if keep(*p)]
  if fields.get("target_modules", [])[:1] == [Q] and len(fields) > 1:
    places = [p for p in places if p[0] == "q"]
  _write(tmp_path, places, **fields)
  with pytest.raises(ValueError, match=f"promises {message}"):
    _load(tmp_path)


LEGAL = {
  "chosen layers": (lambda n, i: i != 1, dict(layers_to_transform=[0, 2])),
  "one layer": (lambda n, i: i == 1, dict(layers_to_transform=1)),
  "no layers chosen are all": (lambda n, i: True, dict(layers_to_transform=[])),
  "layers of a pattern": (
    lambda n, i: i == 2,
    dict(layers_to_transform=[2], layers_pattern="layers"),
  ),
  "a layer that is not there": (lambda n, i: i == 2, dict(layers_to_transform=[2, 7])),
  "all but one module": (
    lambda n, i: (n, i) != ("up", 1),
    dict(exclude_modules=[_module("up", 1)]),
  ),
  "all but a pattern": (
    lambda n, i: n != "up" or i == 2,
    dict(exclude_modules=r".*layers\.[01]\.mlp\.up_proj"),
  ),
}
EVERY = [f"{name}_proj" for name in PROJECTIONS]


@pytest.mark.parametrize("what", LEGAL)
def test_what_a_config_leaves_out_is_not_missed(what, tmp_path):
  keep, fields = LEGAL[what]
  places = [p for p in PLACES if keep(*p)]
  adapter = _load(_write(tmp_path, places, target_modules=EVERY, **fields))
  for name, layer in PLACES:
    present = name in adapter and adapter[name]["A"][layer].any()
    assert present == ((name, layer) in places)


def test_names_that_the_base_does_not_have_promise_nothing(tmp_path):
  """PEFT is content if one target is found: lists for several families are common."""
  places = [p for p in PLACES if p[0] == "q"]
  _load(_write(tmp_path, places, target_modules=[Q, "c_attn", "query_key_value"]))


def test_targets_that_are_not_named_are_those_that_peft_takes(tmp_path):
  places = [p for p in PLACES if p[0] in "qv"]
  assert set(_load(_write(tmp_path / "two", places, target_modules=None))) == {"q", "v"}
  with pytest.raises(ValueError, match="target_modules None.* does not select.*down"):
    _load(_write(tmp_path / "all", target_modules=None))


def test_tensors_that_no_target_selects_are_named(tmp_path):
  _write(tmp_path, target_modules=[Q])
  with pytest.raises(ValueError, match="18 of its tensors.*does not select.*down_proj"):
    _load(tmp_path)


def test_a_pattern_for_another_place_of_the_trunk_still_selects(tmp_path):
  """A file re-saved under new names keeps the pattern that it was trained with."""
  places = [p for p in PLACES if p[0] == "q"]
  pattern = r"language_model\.model\.layers\.\d+\.self_attn\.q_proj"
  folder = _write(
    tmp_path, places, prefix="model.language_model.", target_modules=pattern
  )
  assert set(_load(folder)) == {"q"}


@pytest.mark.parametrize(
  "fields, found",
  [
    (dict(r=0), "rank of r is 0; allowed"),
    (dict(r="8"), "rank of r is '8'"),
    (dict(r=True), "rank of r is True"),
    (dict(lora_alpha=None), "alpha of lora_alpha is None"),
    (dict(lora_alpha=float("nan")), "alpha of lora_alpha is nan; allowed: a finite"),
    (dict(alpha_pattern=["q_proj"]), "alpha_pattern is .*allowed: an object"),
    (dict(alpha_pattern={"q_proj": "8"}), "is '8'; allowed: a finite number"),
    (dict(rank_pattern={"(q": 2}), "rank_pattern has a pattern"),
    (dict(target_modules="*.q_proj"), "target_modules has a pattern"),
    (dict(target_modules={"q_proj": 1}), "target_modules is .*allowed: a text or a"),
    (dict(target_modules=[1]), "target_modules is"),
    (dict(target_modules=EVERY, layers_to_transform="all"), "layers_to_transform is"),
    (dict(exclude_modules=3), "exclude_modules is 3"),
  ],
)
def test_a_field_that_says_nothing_is_named_with_its_file(fields, found, tmp_path):
  _write(tmp_path, **fields)
  with pytest.raises(ValueError, match=f"adapter_config.json: .*{found}"):
    _load(tmp_path)


@pytest.mark.parametrize(
  "fields, found",
  [
    (dict(use_hira=True), "use_hira"),
    (dict(enable_lora=[True, False]), "enable_lora"),
    (dict(use_qalora=True), "use_qalora"),
    (dict(trainable_token_indices=[1]), "trainable_token_indices"),
    (dict(target_parameters=["experts"]), "target_parameters"),
    (dict(init_lora_weights="corda"), "corda"),
  ],
)
def test_a_kind_of_adapter_that_is_more_than_two_factors_is_named(
  fields, found, tmp_path
):
  with pytest.raises(ValueError, match=f"{found}.*not supported"):
    _load(_write(tmp_path, **fields))


def _change(folder, change):
  path = folder / "adapter_model.safetensors"
  tensors = safetensors.numpy.load_file(path)
  change(tensors)
  safetensors.numpy.save_file(tensors, path)


LAST = f"base_model.model.{_module('down', 2)}.lora_B.weight"


def _one(value):
  def change(tensors):
    tensors[LAST][3, 1] = value

  return change


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_named_by_file_and_tensor(value, tmp_path):
  _change(_write(tmp_path), _one(value))
  message = rf"adapter_model.safetensors: tensor {re.escape(LAST)} has 1 of 32 .*NaN"
  with pytest.raises(ValueError, match=message):
    _load(tmp_path)


def test_factors_that_training_did_not_gather_are_named_as_empty(tmp_path):
  _change(_write(tmp_path), lambda t: t.update({LAST: np.zeros(0, np.float32)}))
  with pytest.raises(ValueError, match=r"is empty \(\[0\]\).*ZeRO-3.*gather"):
    _load(tmp_path)


def test_two_tensors_for_one_factor_are_refused(tmp_path):
  again = LAST.replace("model.layers", "model.language_model.layers")
  for other in (LAST.replace(".weight", ".default.weight"), again):
    _change(_write(tmp_path), lambda t: t.update({other: t[LAST] * 2}))  # noqa: B023
    with pytest.raises(ValueError, match="two tensors for one factor"):
      _load(tmp_path)
