"""What all launchers share: a config flag, processes, clear errors, progress bar."""

from collections.abc import Callable
import errno
from logging import WARNING
import os
import pathlib
import signal
import sys
import threading
import traceback
from typing import Any

from absl import app, flags, logging
import jax
from ml_collections import config_flags
from tqdm import tqdm

from jswarm.distributed import processes, watchdog
from jswarm.run.session import Plan
from jswarm.systems.evaluate import UtilityBroken
from jswarm.wiring import config as config_lib

# sysexits, and what a user or a scheduler does next.
EXIT_DATA = 65  # the input is wrong; what to change stands in the message
EXIT_IO = 74  # the disk is full or broken; make room and give the same command again
EXIT_AGAIN = 75  # a termination signal came; give the same command again
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
_GRACE = 8.0  # seconds from a termination signal to the end of the process


def define_config() -> flags.FlagHolder:
  """--config=file.py[:argument], and --config.section.field=value for any field."""
  return config_flags.DEFINE_config_file(
    "config",
    None,
    "A file of configs/, and :argument where it takes one.",
    lock_config=True,
  )


def define_skipping() -> flags.FlagHolder:
  """--skip_bad_experts, for `without_bad`."""
  return flags.DEFINE_bool(
    "skip_bad_experts",
    False,
    "Go on without experts that are refused, as pool.skip_bad does.",
  )


def without_bad(config, flag: flags.FlagHolder):
  """The config, with pool.skip_bad set where the flag is."""
  return config_lib.override(config, {"pool.skip_bad": True}) if flag.value else config


def define_processes() -> None:
  """Flags of a launcher that may run in several processes; read by `join`."""
  flags.DEFINE_string("coordinator", None, "host:port of process 0, the same for all.")
  flags.DEFINE_integer("num_processes", None, "How many processes search together.")
  flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
  flags.DEFINE_bool(
    "distributed",
    False,
    "Search in several processes that jax finds by"
    " itself: on a TPU pod, in Slurm, GKE, Open MPI.",
  )


def join(config) -> None:
  """Joins the other processes if the flags say that there are any; the first use of
  jax in the program."""
  given = [
    flags.FLAGS[name].value for name in ("coordinator", "num_processes", "process_id")
  ]
  if flags.FLAGS.distributed or any(value is not None for value in given):
    processes.initialize(*given, settings=config_lib.processes(config))


def keep_compiled(config) -> None:
  """A persistent compile cache: the second start of a search compiles nothing."""
  # jax declares its options at run time.
  chosen = jax.config.jax_compilation_cache_dir  # pyrefly: ignore[missing-attribute]
  if config.engine.compile_cache and chosen is None:
    folder = _cache_folder()
    if folder is None:
      logging.warning("no folder can be written for compiled programs: none are kept.")
      return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _cache_folder():
  """A folder of this user that can be written; None: no home, or a read-only one."""
  try:
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    folder = pathlib.Path(home) / "jswarm" / "xla"
    folder.mkdir(parents=True, exist_ok=True)
  except (OSError, RuntimeError):  # RuntimeError: a user that nobody knows
    return None
  return folder if os.access(folder, os.W_OK) else None


class Terminated(BaseException):
  """A termination signal came; no library takes it for an error of its own."""


def end_on_signal() -> None:
  """SIGTERM ends the program within seconds; what was committed and paid for is kept.

  Checkpoints are written as a whole and every call is in the ledger once it was made,
  so there is nothing to save at this point.
  """

  def end(signum, frame):
    del signum, frame
    last = threading.Timer(_GRACE, os._exit, [EXIT_AGAIN])  # a device call may be long
    last.daemon = True
    last.start()
    raise Terminated

  signal.signal(signal.SIGTERM, end)


def launch(
  main: Callable[[list[str]], None], *required: str, listing: str = ""
) -> None:
  """Runs `main`; what a user can mend is printed without a traceback.

  `listing`: a flag that makes do without the required ones where it says help.
  """
  for name in required:
    _require(name, listing)
  try:
    app.run(lambda argv: _guard(main, argv), flags_parser=_parse)
  except KeyboardInterrupt:
    sys.exit(130)


def _require(name, listing):
  if not listing or listing == name:
    flags.mark_flag_as_required(name)
    return
  flags.register_multi_flags_validator(
    [listing, name],
    lambda given: given[listing] == "help" or given[name] is not None,
    f"--{name} is missing.",
  )


class Progress:
  """A progress bar over node executions: calls/s, share of calls saved, ETA."""

  def __init__(self, disable: bool):
    self._disable, self._made = disable, 0
    self._bar: Any = None  # from `expect` on

  def expect(self, total: int) -> None:
    # None: only where somebody watches; a log file has a line an iteration.
    self._bar = tqdm(
      total=total, unit="call", disable=self._disable or None, dynamic_ncols=True
    )

  def __call__(self, made: int, asked: int) -> None:
    self._made += made
    self._bar.update(asked)
    self._bar.set_postfix(
      made=self._made, saved=f"{1 - self._made / max(1, self._bar.n):.0%}"
    )

  def close(self) -> None:
    self._bar.close()


def planned_calls(plan: Plan) -> int:
  """Node executions if patience never ends the search: (T+1)(N+M) n D_dev, the
  experts alone on dev, and the final systems on test and on what is held out."""
  settings, num = plan.settings, len(plan.experts.names)
  steps = {
    "both": settings.graphs + settings.assignments,
    "role": settings.graphs,
    "weight": settings.assignments,
  }[settings.steps]
  dev, test = len(plan.task.dev), len(plan.task.test)
  systems = 5 if plan.baselines else 2
  search = (settings.iterations + 1) * steps * dev + dev
  return num * (search + len(plan.task.held) + systems * test) + test


def _own(record) -> bool:
  """Libraries that share absl's logger speak only when something is wrong."""
  return record.levelno >= WARNING or "jswarm" in record.pathname


def _guard(main, argv):
  logging.get_absl_handler().addFilter(_own)
  try:
    main(argv)
  except Terminated as error:
    print(
      "termination signal: the same command goes on from the last checkpoint and loses"
      " at most the calls under way.",
      file=sys.stderr,
    )
    processes.leave(EXIT_AGAIN, error)
  except (ValueError, OSError, UtilityBroken, watchdog.RankError) as error:
    logging.debug("", exc_info=True)
    print(f"error: {error}", file=sys.stderr)
    processes.leave(_exit_code(error), error)
  except Exception as error:
    if processes.count() > 1:  # the others must not wait for a process with a bug
      traceback.print_exc()
      processes.leave(1, error)
    raise


def _exit_code(error):
  if isinstance(error, OSError) and error.errno in _FULL:
    return EXIT_IO
  return getattr(error, "exit_code", EXIT_DATA)


def _parse(argv):
  """absl's parser; a field that does not exist is a line, not a traceback."""
  try:
    return flags.FLAGS(argv)
  except (AttributeError, KeyError) as error:
    # The message arrives quoted twice, with its newlines spelled out.
    hint = str(error.args[0] if error.args else "").replace("\\n", " ")
    hint = hint.replace("\\'", "'").strip("'")
    print(
      f"error: --config has no field '{hint} All fields, with their units, stand in"
      " jswarm/wiring/defaults.py.",
      file=sys.stderr,
    )
  except (flags.Error, TypeError, ValueError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
  sys.exit(EXIT_DATA)
