"""Tasks from flat fields, each put into the record that has it."""

import dataclasses

from jswarm.tasks import load
from jswarm.tasks.wishes import Judging, Source, Wishes


def load_task(name=None, **fields):
  records = []
  for kind in (Source, Wishes, Judging):
    names = {field.name for field in dataclasses.fields(kind)} & set(fields)
    records.append(kind(**{n: fields.pop(n) for n in names}))
  assert not fields, fields
  return load.load_task(name, *records)
