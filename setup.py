"""Package, dependencies and extras of jswarm."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
# Read, not imported: the package's libraries are not there yet.
(VERSION,) = re.findall(
  r'^__version__ = "(.+)"$', (HERE / "jswarm" / "__init__.py").read_text("utf-8"), re.M
)

setup(
  name="jswarm",
  version=VERSION,
  description="Heterogeneous Swarms in JAX: searches the best multi-LLM system of a"
  " pool of experts with particle swarm optimization.",
  long_description=(HERE / "README.md").read_text("utf-8"),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  python_requires=">=3.11",
  packages=find_packages(include=["jswarm", "jswarm.*"]),
  package_data={"jswarm": ["data/**/*", "report/templates/*"]},
  install_requires=[
    "jax>=0.10.2",
    "flax>=0.12.8",
    "optax>=0.2.5",
    "orbax-checkpoint>=0.12.3,<1",
    "transformers>=5",
    "chex>=0.1.90",
    "absl-py>=2",
    "ml-collections>=1",
    "numpy>=2",
    "ml-dtypes>=0.5",
    "safetensors>=0.5",
    "tokenizers>=0.21",
    # Chat templates are others' programs, run in Jinja's sandbox: before 3.1.6 its
    # filter |attr led out of it (CVE-2025-27516).
    "jinja2>=3.1.6",
    "gguf>=0.17",  # GGUF reader and dequantisation
    "huggingface-hub>=1,<3",
    "pyyaml>=6",  # the front of model cards
    "tqdm>=4.66",
    "cmaes>=0.11",  # LoraHub's search; numpy alone
    "scipy>=1.15",  # tests of one method against another
    "tensorboardX>=2.6",
  ],
  extras_require={
    "cuda12": ["jax[cuda12]>=0.10.2"],
    "tpu": ["jax[tpu]>=0.10.2"],
    "gym": ["reasoning-gym>=0.1.25,<0.2"],  # generators of questions as tasks
    "figures": ["matplotlib>=3.9"],
    "benchmark": ["evosax>=0.3", "torch", "peft"],  # peers, each optional
    "test": [
      "pytest>=8",
      "pytest-xdist>=3",
      "hypothesis>=6.100",
      "networkx>=3",
      "matplotlib>=3.9",
      # A minor version of these formats or finds what the one before did not.
      "ruff>=0.17,<0.18",
      "pyrefly>=1.5,<1.6",
    ],
  },
)
