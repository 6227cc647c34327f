"""jswarm: Heterogeneous Swarms (arXiv 2502.04510) in JAX.

pool = jswarm.load_pool(["expert-a", "expert-b"], base="base-model")
result = jswarm.search(pool, {"dev": [...], "test": [...]}, utility=my_utility)
jswarm.load_system("runs/mine/best").generate(["..."])
"""

__version__ = "0.1.0"
__all__ = ["load_pool", "load_system", "search"]


def __getattr__(name):
  # On first use: a module like jswarm.swarm.pso is to load no tokenizer library.
  if name in __all__:
    from jswarm import api

    return getattr(api, name)
  raise AttributeError(f"module 'jswarm' has no attribute {name!r}")
