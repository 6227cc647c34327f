"""reproducible: the order of a set of words is the same in every process."""

import sys

import pytest

from jswarm.tasks import reproducible

WORDS = [f"word{i}" for i in range(40)]


def order(words):
  """The order that a set of them has here."""
  print("what a function prints does no harm")
  return list(set(words))


def refuses():
  raise ValueError("not so")


def leaves():
  sys.exit(3)


def test_a_set_has_one_order_whatever_the_salt_of_who_calls(monkeypatch):
  orders = []
  for salt in ("1", "2"):
    monkeypatch.setenv("PYTHONHASHSEED", salt)
    orders.append(reproducible.call(order, WORDS))
  assert orders[0] == orders[1] != WORDS


def test_an_error_comes_back_as_it_was_raised():
  with pytest.raises(ValueError, match="^not so$"):
    reproducible.call(refuses)


def test_a_process_that_ends_by_itself_is_named():
  with pytest.raises(RuntimeError, match=r"reproducible_test.leaves ended with 3"):
    reproducible.call(leaves)
