"""What the README shows is what runs."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_library_example_runs_as_it_stands(tmp_path):
  (example,) = re.findall(r"```python\n(.*?)```", README, re.S)
  script = tmp_path / "example.py"
  script.write_text(example.replace('"runs/mine', f'"{tmp_path}/mine'))
  done = subprocess.run(
    [sys.executable, str(script)],
    cwd=tmp_path,
    text=True,
    capture_output=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr
  score, reply = done.stdout.strip().split("\n")
  assert 0 <= float(score.split()[0]) <= 1 and reply.startswith("['")


def test_every_file_and_field_that_the_readme_names_exists():
  from jswarm.wiring import config
  from jswarm.wiring.defaults import get_config

  for target in re.findall(r"\]\(((?:jswarm|docs|configs)/[^)]+)\)", README):
    assert (ROOT / target).exists(), target
  fields = config.flatten(get_config())
  for flag in re.findall(r"--config\.([a-z_.]+)=", README):
    assert flag in fields, flag


def test_the_ci_runs_the_commands_of_the_readme():
  ci = (ROOT / ".ci" / "run").read_text()
  for command in (
    "python -m pytest",
    "-m experiments.search --config=configs/quickstart.py",
  ):
    assert command in README and command in ci
