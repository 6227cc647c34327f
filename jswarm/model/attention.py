"""Masked grouped-query attention over positions: the pure functions of the decoder.

Padding and empty cache slots have position -1 and are seen by no one; a query sees
the keys at its own and at smaller positions, down to its window.

Sequences of different lengths may lie end to end in one row (a pack, see `Spans`): then
nothing is padded to the longest, and a block of queries reads just the keys before it
that can belong to its own sequences.
"""

from functools import partial

from flax import struct
import jax
import jax.numpy as jnp

_MASKED = -1e30  # finite: a row without any visible key gives a mean, never NaN
_QUERY_BLOCK = 256  # queries at a time: bounds the scores to [B, H, 256, S]
_GROUP = 4  # blocks of a pack at a time on CPU
_REACHES = (0, 128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
_FEW = 8  # queries a K/V head: a decode step, not a prefill
SPAN_BLOCK = 128  # queries of a pack at a time; the length of a pack is a multiple
TOKEN_BLOCK = 32  # the same on CPU, where fewer masked keys are worth more than large
#                   products; and tokens of a pack that have one expert


@struct.dataclass
class Spans:
  """Which keys each block of a pack's queries reads: `spans` makes it.

  With n blocks of q queries, each of which reads the s keys that end where it ends, and
  before them the P keys of a shared prefix. `far` [n / 4] says for four blocks which of
  the `reaches` is as far back as any of their queries sees.
  """

  keys: jax.Array  # int32 [n, P + s], index of the key in the pack
  q_positions: jax.Array  # int32 [n, q]
  k_positions: jax.Array  # int32 [n, P + s]
  seen: jax.Array  # bool [n, q, P + s], of one sequence, or of its prefix
  far: jax.Array  # int32 [n / 4]
  prefix: int = struct.field(pytree_node=False)
  reaches: tuple[int, ...] = struct.field(pytree_node=False)


def spans(positions, reach: int, roots=None, prefix: int = 0) -> Spans:
  """The `Spans` of positions[T], the longest of whose sequences has `reach` tokens.

  Tokens of a sequence lie side by side at positions 0, 1, 2 ...; padding is -1. Three
  prompts a, b, c in a pack, drawn with blocks of 4 tokens and a reach of 4:

      pack       a a a a | a b b c | c c - -
      positions  0 1 2 3 | 4 0 1 0 | 1 2 . .
      starts     0 0 0 0 | 0 5 5 7 | 7 7 . .   the same for tokens of one sequence

      the second block reads the 4 keys before it and its own, and of them sees
                 a a a a   a b b c
            a    x x x x   x . . .
            b    . . . .   . x x .             which of them come later, positions tell
            b    . . . .   . x x .
            c    . . . .   . . . x

  Or sequences begin at position P = `prefix`, and the tokens before are those of
  another one, which lies once in the pack for all that share them: the blocks of
  TOKEN_BLOCK tokens tell by `roots` [T / TOKEN_BLOCK] where theirs begins. A sequence
  that lies directly behind its prefix is one with it (here a; P = 2):

      pack       p p a a | b b c -     every block reads p p too, before its near keys;
      positions  0 1 2 3 | 2 3 2 .     a sees them where they lie, b and c see these
      starts     0 0 0 0 | 2 2 4 .
  """
  index = jnp.arange(positions.shape[0], dtype=jnp.int32)
  starts = index - positions
  size = TOKEN_BLOCK if prefix or jax.default_backend() == "cpu" else SPAN_BLOCK
  blocks = index.reshape(-1, size)

  # 1. The keys near a block: `reach` before it and its own, if of one sequence.
  keys, k_positions, seen = _near_keys(positions, starts, blocks, reach)
  begins = starts
  # 2. Before them the prefix, for those that do not lie directly behind it.
  if prefix:
    shared, shared_seen = _prefix_keys(starts, blocks, roots, prefix)
    keys = jnp.concatenate([shared, keys], axis=1)
    k_positions = jnp.concatenate([positions[shared], k_positions], axis=1)
    seen = jnp.concatenate([shared_seen, seen], axis=2)
    behind = jnp.repeat(roots, TOKEN_BLOCK) == starts
    begins = starts + jnp.where(behind, 0, prefix)
  # 3. How far back its queries see, as one of a few lengths.
  reaches = tuple(r for r in _REACHES if r < reach) + (reach,)
  far = _farthest(begins, blocks, reaches)
  return Spans(keys, positions[blocks], k_positions, seen, far, prefix, reaches)


def _near_keys(positions, starts, blocks, reach):
  """Of blocks [n, q]: keys and k_positions int32 [n, s], seen bool [n, q, s]."""
  before = jnp.arange(-reach, 0, dtype=jnp.int32)[None] + blocks[:, :1]
  keys = jnp.concatenate([before, blocks], axis=1)
  there = jnp.maximum(keys, 0)  # the first blocks reach beyond the pack's beginning
  k_positions = jnp.where(keys >= 0, positions[there], -1)
  seen = starts[blocks][:, :, None] == starts[there][:, None]
  return there, k_positions, seen


def _prefix_keys(starts, blocks, roots, prefix):
  """Of blocks [n, q]: keys of the prefix int32 [n, P], seen bool [n, q, P]."""
  shared = roots[:, None] + jnp.arange(prefix, dtype=jnp.int32)[None]
  apart = starts[blocks][:, :, None] != roots[:, None, None]
  return shared, jnp.broadcast_to(apart, (*blocks.shape, prefix))


def _farthest(begins, blocks, reaches):
  """int32 [n / 4]: which of `reaches` holds what any query of four blocks looks back
  to, from its block's first token. [n] where four do not divide n."""
  first = blocks[:, 0]
  back = first - jnp.min(jnp.minimum(begins[blocks], first[:, None]), axis=1)
  if len(blocks) % _GROUP == 0:
    back = jnp.max(back.reshape(-1, _GROUP), axis=1)
  shorter = jnp.array(reaches[:-1] or (0,), jnp.int32)
  return jnp.sum(back[:, None] > shorter[None], axis=1).astype(jnp.int32)


def softcap(x, cap):
  """cap * tanh(x / cap), or x when cap is None."""
  return x if cap is None else cap * jnp.tanh(x / cap)


def rope_angles(positions, frequencies):
  """cos and sin, float32 [n, B, T, 1, h / 2], of positions[B, T], frequencies[n, h/2].

  Padding has position -1; any angle will do there.
  """
  angle = positions[None, :, :, None, None] * frequencies[:, None, None, None, :]
  # Without the barrier XLA fuses the (slow) cosines into every layer and head.
  return jax.lax.optimization_barrier((jnp.cos(angle), jnp.sin(angle)))


def rotate(x, cos, sin):
  """RoPE of x[B, T, n, h] by cos, sin [B, T, 1, h / 2]; pairs are (i, i + h / 2)."""
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x.dtype)


def visible(q_positions, k_positions, window):
  """bool [B, T, S] of q_positions[B, T] and k_positions[B, S]."""
  keys = k_positions[:, None, :]
  gap = q_positions[:, :, None] - keys
  return (keys >= 0) & (gap >= 0) & (gap < window)


def attend_spans(config, q, k, v, where, window):
  """Attention inside the sequences of a pack: q[1, T, H, h], k, v [1, K, T, h]."""
  blocks = q.reshape(*where.q_positions.shape, *q.shape[2:])

  def some(q, keys, q_positions, k_positions, seen):
    # Blocks become rows of a batch, each with its own copy of the keys that it reads.
    near = lambda x: jnp.take(x[0], keys, axis=1).swapaxes(0, 1)  # [n, K, s, h]
    return _attend(config, q, near(k), near(v), q_positions, k_positions, window, seen)

  rows = (blocks, where.keys, where.q_positions, where.k_positions, where.seen)
  if jax.default_backend() == "cpu" and len(blocks) % _GROUP == 0:
    out = _by_reach(some, rows, where)
  else:
    out = some(*rows)
  return out.reshape(1, q.shape[1], -1)


def _by_reach(some, rows, where):
  """A few blocks at a time, which stay in the processor's cache, no further back than
  they see: two to five times faster on CPU than all blocks at once."""
  prefix, reaches = where.prefix, where.reaches

  def nearer(x, reach):  # [..., P + reaches[-1] + q] without the far keys
    return jnp.concatenate(
      [x[..., :prefix], x[..., prefix + reaches[-1] - reach :]], axis=-1
    )

  def branch(reach):
    return lambda q, keys, q_positions, k_positions, seen: some(
      q,
      nearer(keys, reach),
      q_positions,
      nearer(k_positions, reach),
      nearer(seen, reach),
    )

  one = lambda xs: jax.lax.switch(xs[0], [branch(r) for r in reaches], *xs[1])
  grouped = jax.tree.map(lambda x: x.reshape(-1, _GROUP, *x.shape[1:]), rows)
  return jax.lax.map(one, (where.far, grouped))


def attend(config, q, k, v, q_positions, k_positions, window):
  """Attention of q[B, T, H, h] over k, v [B, K, S, h]: float32 [B, T, H * h].

  Scores exist for one block of queries at a time, never for [B, H, T, S].
  """
  rows, tokens, *head = q.shape
  if tokens <= _QUERY_BLOCK:
    return _attend(config, q, k, v, q_positions, k_positions, window)
  count = -(-tokens // _QUERY_BLOCK)
  short = count * _QUERY_BLOCK - tokens
  q = jnp.pad(q, ((0, 0), (0, short), (0, 0), (0, 0)))
  q_positions = jnp.pad(q_positions, ((0, 0), (0, short)), constant_values=-1)
  blocks = (
    q.reshape(rows, count, _QUERY_BLOCK, *head).swapaxes(0, 1),
    q_positions.reshape(rows, count, _QUERY_BLOCK).swapaxes(0, 1),
  )

  @jax.checkpoint  # else the backward pass would keep every block's scores
  def one(block):
    return _attend(config, block[0], k, v, block[1], k_positions, window)

  out = jax.lax.map(one, blocks)  # [count, B, block, H * h]
  return out.swapaxes(0, 1).reshape(rows, count * _QUERY_BLOCK, -1)[:, :tokens]


def _attend(config, q, k, v, q_positions, k_positions, window, same=None):
  """`attend` for one block; a group's queries are rows of one product with its K, V."""
  rows, tokens, heads, size = q.shape
  kv_heads = k.shape[1]
  groups = heads // kv_heads
  if jax.default_backend() == "cpu":  # bf16 batched dots can fail there
    q, k, v = (x.astype(jnp.float32) for x in (q, k, v))
  q = q.reshape(rows, tokens, kv_heads, groups, size).transpose(0, 2, 3, 1, 4)
  scores = _scores(q.reshape(rows, kv_heads, groups * tokens, size), k)
  scores = scores.reshape(rows, kv_heads, groups, tokens, -1)
  seen = visible(q_positions, k_positions, window)
  seen = seen if same is None else seen & same
  # Added, not selected: the mask is read once for all heads, and XLA fuses a sum.
  mask = jnp.where(seen, 0.0, _MASKED)[:, None, None]
  scores = softcap(scores * config.query_scale, config.attn_softcap) + mask
  weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, -1, keepdims=True)))
  total = jnp.sum(weights, axis=-1)[..., None]
  weights = weights.reshape(rows, kv_heads, groups * tokens, -1).astype(v.dtype)
  dot = partial(jnp.einsum, preferred_element_type=jnp.float32)
  out = dot("bknS,bkSh->bknh", weights, v)
  out = out.reshape(rows, kv_heads, groups, tokens, size) / total
  return out.transpose(0, 3, 1, 2, 4).reshape(rows, tokens, heads * size)


def _scores(q, k):
  """q[B, K, n, h] . k[B, K, S, h] -> float32 [B, K, n, S]."""
  dot = partial(jnp.einsum, preferred_element_type=jnp.float32)
  if jax.default_backend() != "cpu" or q.shape[2] > _FEW:
    return dot("bknh,bkSh->bknS", q, k)
  # For few queries XLA's CPU dot would pack all of k first; as the left operand, held
  # there by the barriers, k is read in place (7x faster at 32 rows x 256 slots).
  q = jax.lax.optimization_barrier(q.swapaxes(2, 3))
  return jax.lax.optimization_barrier(dot("bkSh,bkhn->bkSn", k, q)).swapaxes(2, 3)
