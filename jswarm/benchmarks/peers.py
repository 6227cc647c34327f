"""The usual way to generate, as a peer: transformers, and peft for many experts.

Greedy, with cache and attention mask, to exactly the asked number of new tokens. The
packages are imported when a peer is made, so that an ImportError names them.
"""

from collections.abc import Callable, Sequence
import os

import jax
import numpy as np

from jswarm.core.types import PyTree
from jswarm.formats import peft_adapter
from jswarm.model.architecture import DecoderConfig

GenerateFn = Callable[..., list[list[int]]]


def transformers_model(folder: str, dtype: str):
  """The model in a folder, on the GPU if there is one."""
  import torch
  import transformers

  model = transformers.AutoModelForCausalLM.from_pretrained(
    folder, dtype=getattr(torch, dtype)
  )
  return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def transformers_generate(folder: str, dtype: str) -> GenerateFn:
  """generate(rows of token ids, new tokens) -> new token ids of each row."""
  return _generate_fn(transformers_model(folder, dtype))


def peft_generate(
  folder: str, dtype: str, config: DecoderConfig, particles: PyTree
) -> GenerateFn:
  """generate(rows, new tokens, experts): each row with the adapter of its expert.

  `particles` are adapters [E, ...]; they pass through files below `folder`.
  """
  import peft

  places = []
  for i in range(len(jax.tree.leaves(particles)[0])):
    places.append(os.path.join(folder, f"adapter{i}"))
    peft_adapter.save_adapter(
      places[-1], jax.tree.map(lambda x: np.asarray(x[i]), particles), folder, config
    )
  options = {"autocast_adapter_dtype": False}  # else they stay in float32
  model = peft.PeftModel.from_pretrained(
    transformers_model(folder, dtype), places[0], adapter_name="0", **options
  )
  for i, place in enumerate(places[1:], 1):
    model.load_adapter(place, adapter_name=str(i), **options)
  generate = _generate_fn(model.eval())
  return lambda rows, new, experts: generate(
    rows, new, adapter_names=[str(e) for e in experts]
  )


def _generate_fn(model) -> GenerateFn:
  import torch

  device = next(model.parameters()).device

  def generate(rows, new, **options):
    ids, mask = _left_padded(rows)
    with torch.inference_mode():
      out = model.generate(
        input_ids=torch.tensor(ids, device=device),
        use_cache=True,
        do_sample=False,
        attention_mask=torch.tensor(mask, device=device),
        max_new_tokens=new,
        min_new_tokens=new,
        pad_token_id=0,
        **options,
      )
    return out[:, ids.shape[1] :].tolist()

  return generate


def _left_padded(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
  """(ids [B, T], mask [B, T]), int64."""
  width = max(map(len, rows))
  ids, mask = np.zeros((2, len(rows), width), np.int64)
  for b, row in enumerate(rows):
    ids[b, width - len(row) :], mask[b, width - len(row) :] = row, 1
  return ids, mask


def batches(indices: Sequence[int], most: int) -> list[list[int]]:
  """`indices` in order, at most so many at a time."""
  return [list(indices[i : i + most]) for i in range(0, len(indices), most)]
