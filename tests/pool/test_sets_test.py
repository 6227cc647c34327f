"""test_sets: the files of an archive, checked, as tasks read them. No network here."""

import hashlib
import io
import json
import os
import tarfile

import pytest

from jswarm.pool import download, test_sets
from jswarm.tasks.kinds import KINDS
from tests.loading import load_task

RECORD = {"id": 1, "input": "1 + 1?", "output": "2", "domain": "sums"}
SET = {"name": "sums", "task_type": "exact_match", "dev": [RECORD]}
CONTENT = {
  "LICENSE": "be kind",
  "pkg/data/sums.json": json.dumps({**SET, "test": [{**RECORD, "input": "2 + 0?"}]}),
  "pkg/data/eval.py": "raise SystemExit",
  "pkg/data/../../../outside.json": "{}",
}


def _archive(path, content):
  with tarfile.open(path, "w:gz") as tar:
    for name, text in content.items():
      member = tarfile.TarInfo(f"pkg-1/{name}")
      member.size = len(text)
      tar.addfile(member, io.BytesIO(text.encode()))
  return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(name="offline")
def _offline(monkeypatch, tmp_path):
  """pip replaced, and modelco by an archive of one set; gives what was asked of pip."""
  asked = []
  path = tmp_path / "pkg-1.tar.gz"
  package = test_sets.Package(
    requirement="pkg==1",
    sha256=_archive(path, CONTENT),
    inside="pkg/data",
    licence="MIT",
    sets={"sums": test_sets.Set("exact_match", "CC0", "nobody/sums")},
  )

  def pip_download_source(requirement, sha256, folder):
    asked.append((requirement, sha256, folder))
    return [str(path)]

  monkeypatch.setattr(download, "pip_download_source", pip_download_source)
  monkeypatch.setitem(test_sets.SOURCES, "modelco", package)
  return asked


def test_sets_are_unpacked_described_and_read_as_they_are(offline, tmp_path):
  folder = test_sets.install("modelco", str(tmp_path / "data"))
  assert sorted(os.listdir(folder)) == ["LICENSE", "SETS.json", "sums.json"]
  assert os.listdir(tmp_path / "data") == ["modelco"]
  made = json.loads((tmp_path / "data/modelco/SETS.json").read_text())
  sizes = {"dev": 1, "test": 1}
  told = {"kind": "exact_match", "licence": "CC0", "origin": "nobody/sums", **sizes}
  assert made["sets"] == {"sums": told} and made["licence"] == "MIT"
  task = load_task(kind=told["kind"], path=f"{folder}/sums.json")
  assert task.dev[0].question == "1 + 1?"
  assert task.score(task.dev, ["It is 2."]).tolist() == [1.0]


def test_a_second_call_fetches_nothing(offline, tmp_path):
  first = test_sets.install("modelco", str(tmp_path))
  assert test_sets.install("modelco", str(tmp_path)) == first and len(offline) == 1


def test_an_archive_of_another_checksum_is_refused_and_nothing_stays(
  offline, monkeypatch, tmp_path
):
  other = test_sets.SOURCES["modelco"]._replace(sha256="0" * 64)
  monkeypatch.setitem(test_sets.SOURCES, "modelco", other)
  with pytest.raises(ValueError, match="expected 0000.*pip cache purge"):
    test_sets.install("modelco", str(tmp_path / "data"))
  assert offline and not os.listdir(tmp_path / "data")


def test_an_archive_without_a_set_names_it(offline, monkeypatch, tmp_path):
  package = test_sets.SOURCES["modelco"]
  more = {**package.sets, "poems": package.sets["sums"]}
  monkeypatch.setitem(test_sets.SOURCES, "modelco", package._replace(sets=more))
  with pytest.raises(ValueError, match=r"lacks pkg/data/poems.json; the package was"):
    test_sets.install("modelco", str(tmp_path / "data"))


def test_a_folder_that_is_not_ours_is_left_alone(offline, tmp_path):
  (tmp_path / "modelco").mkdir()
  with pytest.raises(ValueError, match=r"has no SETS.json, so.*did not make it"):
    test_sets.install("modelco", str(tmp_path))
  assert not offline


def test_another_source_is_refused(tmp_path):
  with pytest.raises(ValueError, match="source='hub': allowed are modelco"):
    test_sets.install("hub", str(tmp_path))


def test_every_set_has_a_kind_that_there_is_and_a_word_on_its_licence():
  sets = test_sets.SOURCES["modelco"].sets
  assert len(sets) == 45
  for name, known in sets.items():
    assert known.kind in KINDS and known.licence and known.origin, name


def test_what_pip_says_of_a_source_reaches_the_user(tmp_path, monkeypatch):
  monkeypatch.setenv("PIP_NO_INDEX", "1")  # offline whatever the network is
  with pytest.raises(RuntimeError, match="(?s)No matching.*index settings$"):
    download.pip_download_source("no-such-package-here==0", "0" * 64, str(tmp_path))
