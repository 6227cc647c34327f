"""The pool of experts: folders, hub ids and GGUF files -> groups that share a base.

Experts whose weights can be mixed form a group: adapters on one base, or full
models of one architecture and one vocabulary. A pool may hold several groups; an
expert alone in its group keeps its weights.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import pathlib
from typing import Any, NamedTuple

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from jswarm.core import waits
from jswarm.core.digests import fingerprint
from jswarm.core.problems import attempt
from jswarm.core.types import PyTree
from jswarm.distributed.devices import Replicas, stacked
from jswarm.formats import chat_template, gguf_model, hf_model, peft_adapter
from jswarm.formats import tokenizer as tokenizer_lib
from jswarm.model.architecture import DecoderConfig
from jswarm.model.decoder import make_decoder
from jswarm.pool import own_text
from jswarm.pool.specs import BUILTIN, Spec, identity, locate


class Text(NamedTuple):
  """How an expert reads text and ends it, and how many tokens it was made for."""

  tokenizer: Any
  stops: tuple[int, ...]
  max_positions: int


@dataclasses.dataclass(frozen=True)
class Group:
  """Experts that share a base.

  Attributes:
    kind: "lora" (particles are adapters on `params`) or "full" (particles are
      whole models, `params` is None).
    specs, members: the experts, and their indices in the pool.
    particles: leaves [E, ...]: {"q": {"A": [E, L, D, r], "B": [E, L, r, n]}, ...}
      in float32, or stacked decoder params.
    texts: of whole models each one's own, which may differ in merges, chat template,
      stops and context where vocabularies are one; empty: that of the base for all.
  """

  kind: str
  specs: tuple[Spec, ...]
  members: tuple[int, ...]
  config: DecoderConfig
  tokenizer: Any
  stops: tuple[int, ...]
  params: PyTree | None
  particles: PyTree
  texts: tuple[Text, ...] = ()

  def text(self, row: int) -> Text:
    """Of one expert, by its place in the group."""
    if self.texts:
      return self.texts[row]
    return Text(self.tokenizer, self.stops, self.config.max_positions)

  @property
  def dtype(self):
    """Of the weights that answer."""
    return jax.tree.leaves((self.params, self.particles))[0].dtype

  def base_digest(self) -> str:
    """Tells the weights of the base from any others, wherever they lie; in another
    dtype they have another one. Empty for whole models."""
    return "" if self.params is None else fingerprint(self.params, str(self.dtype))


@dataclasses.dataclass(frozen=True)
class Pool:
  """All experts of a search, in the order of the nodes."""

  names: tuple[str, ...]
  groups: tuple[Group, ...]
  today: str = chat_template.TODAY  # the date that chat templates see
  thinking: bool | None = None  # told to templates that can; None: as they do


@dataclasses.dataclass(frozen=True)
class Base:
  """A base that was checked; its weights are not read yet."""

  folder: str
  config: DecoderConfig
  tokenizer: Any
  stops: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Checked:
  """What `check_pool` has found.

  Attributes:
    bases: by `Spec.source`; spellings of one base share one.
    adapters: by the expert's name, leaves [L, ...].
  """

  bases: Mapping[tuple[str, str | None], Base]
  adapters: Mapping[str, PyTree]


def check_pool(
  specs: Sequence[Spec],
  allow_pickle: bool = False,
  today: str = chat_template.TODAY,
  thinking: bool | None = None,
  problems: list[str] | None = None,
) -> Checked:
  """Finds what is wrong with a pool before the weights of any base are read.

  Of each base: config, names, shapes and extent of its tensors, tokenizer, chat
  template, stops and size of its vocabulary. Then adapters; they are small, and read
  whole.

  `problems`: takes what is wrong, which then is not raised: bases and adapters that are
  wrong are left out of what is returned.

  Raises:
    ValueError: as `load_pool`.
  """
  folders = {
    spec.name: attempt(problems, locate, spec.adapter, spec.revision)
    for spec in specs
    if spec.adapter
  }  # first: bases take long to download
  sources = dict.fromkeys(spec.source for spec in specs)
  bases = _check_bases(sources, allow_pickle, today, thinking, problems)
  adapters = {}
  for spec in specs:
    folder, base = folders.get(spec.name), bases.get(spec.source)
    if folder is None or base is None:
      continue
    adapter = attempt(problems, _load_adapter, spec, folder, base, allow_pickle)
    if adapter is not None:
      adapters[spec.name] = adapter
  return Checked(bases, adapters)


def divide(
  specs: Sequence[Spec], checked: Checked
) -> list[tuple[str, list[tuple[list[int], Base]]]]:
  """Which experts can be mixed: (kind, [(members, their base), ...]) of each group.

  Adapters on one base, then whole models of one architecture and one vocabulary.
  """
  groups, full = [], {}
  for base in {id(base): base for base in checked.bases.values()}.values():
    members = [
      i for i, spec in enumerate(specs) if checked.bases.get(spec.source) is base
    ]
    if any(specs[i].adapter for i in members):
      groups.append(("lora", [(members, base)]))
    else:
      key = (dataclasses.replace(base.config, max_positions=0), digest(base.tokenizer))
      full.setdefault(key, []).append((members, base))
  return groups + [("full", entries) for entries in full.values()]


def load_pool(
  specs: Sequence[Spec],
  dtype=jnp.float32,
  allow_pickle: bool = False,
  replicas: Replicas | None = None,
  today: str = chat_template.TODAY,
  thinking: bool | None = None,
  checked: Checked | None = None,
) -> Pool:
  """Loads every expert once; bases are shared.

  `check_pool` comes first, so that whatever is wrong is found in seconds.
  `replicas`: where weights go as they are read, leaf by leaf: bases under adapters, and
  of whole models those that this process holds. None: all of them are read, bases to
  the default device, whole models to the host.
  `today`: the date that chat templates see, YYYY-MM-DD.
  `thinking`: whether models whose templates can are to think first; None: as they do.
  `checked`: what `check_pool` has found, if it was asked already.

  Raises:
    ValueError: a file is missing, truncated, of another base or unsupported; the
      message names it, what was allowed and what to change.
  """
  checked = checked or check_pool(specs, allow_pickle, today, thinking)
  groups = []
  for kind, entries in divide(specs, checked):
    if kind == "lora":
      ((members, base),) = entries
      adapters = [checked.adapters.get(specs[i].name) for i in members]
      with waits.told(_loading(len(members), base.folder)):
        params = _load_params(base.folder, dtype, allow_pickle, replicas)
      groups.append(
        Group(
          "lora",
          tuple(specs[i] for i in members),
          tuple(members),
          base.config,
          base.tokenizer,
          base.stops,
          params,
          _stack_adapters(adapters),
        )
      )
      continue
    folders = dict.fromkeys(base.folder for _, base in entries)
    with waits.told(_loading(sum(len(mine) for mine, _ in entries), *folders)):
      groups.append(_full_group(entries, specs, dtype, allow_pickle, replicas))
  return Pool(tuple(spec.name for spec in specs), tuple(groups), today, thinking)


def _loading(experts, *folders):
  """What a user waits for: the experts, of which the first base is named."""
  more = f" and {len(folders) - 1} more" if len(folders) > 1 else ""
  size = waits.size_on_disk(folders[0])
  return f"loading {experts} experts on {folders[0]} ({size}){more}"


def digest(tokenizer) -> str:
  """Identifies a vocabulary: two experts that agree on it may be mixed."""
  vocabulary = sorted(tokenizer.get_vocab().items())
  return hashlib.sha256(repr(vocabulary).encode()).hexdigest()[:16]


def _check_bases(sources, allow_pickle, today, thinking, problems):
  """Source -> `Base`; one folder or file is one base, however it is spelt."""
  places = {source: attempt(problems, locate, *source) for source in sources}
  found, bases = {}, {}
  for source, place in places.items():
    if place is None:
      continue
    key = identity(place)
    if key not in found:
      found[key] = _check_base(place, allow_pickle, today, thinking, problems)
    if found[key]:
      bases[source] = found[key]
  return bases


def _check_base(folder, allow_pickle, today, thinking, problems):
  """The `Base` in a folder or file; None if `problems` has why there is none."""
  if folder.endswith(".gguf"):
    config = attempt(problems, gguf_model.check_base, folder)
  else:
    config = attempt(problems, hf_model.check_base, folder, allow_pickle)
  tokenizer = attempt(problems, tokenizer_lib.load_tokenizer, folder, today, thinking)
  if tokenizer is None:
    return None
  attempt(problems, tokenizer_lib.check_template, tokenizer)
  stops = attempt(problems, tokenizer_lib.stop_ids, tokenizer, folder)
  if config is None or stops is None:
    return None
  attempt(problems, _check_vocabulary, tokenizer, stops, config, folder)
  return Base(folder, config, tokenizer, stops)


def _load_adapter(spec, folder, base, allow_pickle):
  adapter = peft_adapter.load_adapter(folder, base.config, allow_pickle=allow_pickle)
  for what in own_text.differences(folder, base.tokenizer, base.stops, base.folder):
    logging.warning(
      "the adapter %s brings %s other than that of its base %s, which is used: its"
      " prompts may not be those that it was trained on. If all experts of the base"
      " want the adapter's, copy these files into a copy of the base's folder and give"
      " that as their `base`",
      folder,
      what,
      base.folder,
    )
  last = lambda path: pathlib.PurePath(path.removeprefix(BUILTIN)).name.lower()
  named = peft_adapter.adapter_base(folder)
  same = identity(named) == identity(spec.base)
  if last(named) and last(named) != last(spec.base) and not same:
    logging.warning(
      "the adapter %s was made for the base %r and is put on %s, where its shapes"
      " fit: check that these are the same weights under two names; if not, give the"
      " expert the `base` that it was made for",
      spec.adapter,
      named,
      spec.base,
    )
  return adapter


def _load_params(folder, dtype, allow_pickle, replicas):
  place = replicas and replicas.place
  if folder.endswith(".gguf"):
    return gguf_model.load_base(folder, dtype, place)[1]
  return hf_model.load_base(folder, dtype, allow_pickle, place)[1]


def _reader(folder, dtype, allow_pickle):
  """read(path) -> one leaf of a whole model; nothing is read before it is needed."""
  if folder.endswith(".gguf"):
    return gguf_model.leaf_reader(folder, dtype)
  return hf_model.leaf_reader(folder, dtype, allow_pickle)


def _check_vocabulary(tokenizer, stops, config, folder):
  if max(stops, default=0) >= config.vocab:
    raise ValueError(
      f"{folder}: replies are to end with token {max(stops)} (eos_token_id of its"
      f" config.json or generation_config.json), but the model has {config.vocab}"
      " tokens: the two do not belong together."
    )
  size = max(tokenizer.get_vocab().values()) + 1
  if size > config.vocab:
    raise ValueError(
      f"{folder}: its tokenizer has {size} tokens, the model"
      f" {config.vocab}: the two do not belong together."
    )


def _stack_adapters(adapters):
  """Adapters [L, ...] of any targets and ranks -> leaves [E, L, ...], zero-filled.

  A rank padded with zeros, a target an adapter leaves alone and an expert that is
  the bare base all contribute nothing.
  """
  given = [adapter for adapter in adapters if adapter is not None]
  rank = max(f["A"].shape[-1] for a in given for f in a.values())
  shapes = {
    name: (f["A"].shape[:2], f["B"].shape[-1]) for a in given for name, f in a.items()
  }

  def factors(adapter, name):
    (layers, width), out = shapes[name]
    a = np.zeros((layers, width, rank), np.float32)
    b = np.zeros((layers, rank, out), np.float32)
    if adapter and name in adapter:
      r = adapter[name]["A"].shape[-1]
      a[..., :r], b[:, :r] = adapter[name]["A"], adapter[name]["B"]
    return a, b

  stacked = {name: [factors(adapter, name) for adapter in adapters] for name in shapes}
  return {
    name: {
      # Placed as they are: `jnp.asarray` compiles a program for every shape.
      "A": jax.device_put(np.stack([a for a, _ in pairs])),
      "B": jax.device_put(np.stack([b for _, b in pairs])),
    }
    for name, pairs in sorted(stacked.items())
  }


def _full_group(entries, specs, dtype, allow_pickle, replicas):
  """Whole models as particles, read leaf by leaf by the processes that hold them."""
  readers, members, texts = [], [], []
  for mine, base in entries:  # experts of one model too are a particle each
    readers += [_reader(base.folder, dtype, allow_pickle)] * len(mine)
    members += mine
    text = Text(base.tokenizer, base.stops, base.config.max_positions)
    texts += [text] * len(mine)
  _, base = entries[0]  # but for texts, all of them are alike

  def leaf(path, like):
    read = lambda i: readers[i](tuple(key.key for key in path))
    if replicas:
      return replicas.stack((len(members), *like.shape), read)
    return stacked(read, len(members))

  init = make_decoder(base.config, dtype).init
  particles = jax.tree_util.tree_map_with_path(
    leaf, jax.eval_shape(init, jax.random.key(0))
  )
  return Group(
    "full",
    tuple(specs[i] for i in members),
    tuple(members),
    base.config,
    base.tokenizer,
    base.stops,
    None,
    particles,
    tuple(texts),
  )
