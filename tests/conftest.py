"""Settings of the whole suite, made before jax is imported."""

import os
import tempfile

# Programs are compiled once a session, also by the processes that tests start.
os.environ.setdefault(
  "JAX_COMPILATION_CACHE_DIR", tempfile.mkdtemp(prefix="jswarm-xla-")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Programs of tests run once or twice: to optimise them takes longer than it saves. (At
# level 0 they round otherwise, and what earlier versions have written is not met.)
if "optimization_level" not in os.environ.get("XLA_FLAGS", ""):
  flags = os.environ.get("XLA_FLAGS", "")
  os.environ["XLA_FLAGS"] = f"{flags} --xla_backend_optimization_level=1".strip()
