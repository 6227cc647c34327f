"""The library: `jswarm.load_pool`, `jswarm.search`, `jswarm.load_system`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jswarm.distributed import processes
from jswarm.engine import engine
from jswarm.pool import load, specs
from jswarm.report import pages
from jswarm.run import loop, session
from jswarm.wiring import config as config_lib
from jswarm.wiring import search as search_lib
from jswarm.wiring import system
from jswarm.wiring.defaults import get_config


def load_pool(
  experts: Sequence[str | Mapping[str, str]],
  *,
  base: str = "",
  dtype: str = "float32",
  allow_pickle: bool = False,
  today: str = load.Pool.today,
  thinking: bool | None = None,
) -> load.Pool:
  """Loads experts from folders, hub ids or GGUF files.

  Args:
    experts: each a PEFT adapter, a whole model, "base+adapter", or a dict with
      `base`, `adapter`, `name`, `revision` (the adapter's, or the whole model's) and
      `base_revision` (of an adapter's base).
    base: the base of adapters that name none.
    dtype: "float32" or "bfloat16", of the bases on the device.
    allow_pickle: read .bin files too; they can run code.
    today: the date that chat templates see, YYYY-MM-DD, on whatever day.
    thinking: whether models whose chat templates can are to think before they answer;
      None: as each template does by itself.

  Raises:
    ValueError: names the file, what was found, what was allowed, what to change.
  """
  kind = config_lib.model_dtype(dtype, "dtype")  # before anything is downloaded
  chosen = specs.parse_specs(experts, base)
  return load.load_pool(chosen, kind, allow_pickle, today=today, thinking=thinking)


def search(
  pool: load.Pool,
  records: Mapping[str, Iterable[Mapping[str, Any]]],
  *,
  utility: Callable | str | None = None,
  workdir: str | None = None,
  config: Mapping[str, Any] | None = None,
  progress: Callable[[int, int], None] | None = None,
) -> session.Result:
  """Searches for the best multi-LLM system of a pool on records of your own.

  Args:
    pool: from `load_pool`.
    records: {"dev": [...], "test": [...]}, each record a dict with `question` and
      `answer` (or whatever your utility reads); dev steers the search, test is
      scored once at its end.
    utility: `(examples, replies) -> scores`, one float an example, larger is
      better; or "pkg.module:function". Without it the records' kind scores.
    workdir: where checkpoints and results go, and where a second call continues;
      None keeps nothing.
    config: changed fields, {"search.graphs": 6, "task.kind": "exact_match", ...}.
    progress: called as progress(calls made, calls asked for) after each batch.

  Returns:
    A `Result`: `.results` (as results.json), `.system`, `.tested`.

  Raises:
    ValueError: a bad field or record. UtilityBroken: the utility failed five times
      in a row.
  """
  settings = config_lib.override(get_config(), config or {})
  if utility and settings.task.kind is None and not settings.task.name:
    settings.task.kind = "custom"
  serving = config_lib.resolve(settings).engine
  settings.pool.experts = pool.names
  settings.pool.dtype = str(pool.groups[0].dtype)
  settings.pool.today = pool.today
  settings.pool.thinking = pool.thinking
  plan = search_lib.plan(
    settings,
    records=records,
    utility=utility,
    progress=progress,
    experts=engine.make_experts(pool, serving),
    workdir=workdir,
  )
  result = loop.run(plan, workdir)
  if workdir and processes.is_writer():
    pages.try_write(workdir)
  return result


load_system = system.load_system
