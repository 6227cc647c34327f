"""An unknown name: all known ones are listed, and those like it are offered."""

import pytest

from jswarm.core import lookup

NAMES = ("graphs", "assignments", "iterations")


def test_an_unknown_name_lists_the_known_ones_and_offers_the_nearest():
  assert lookup.unknown("field", "graph", NAMES) == (
    "unknown field 'graph'; allowed are graphs, assignments, iterations."
    " Did you mean graphs?"
  )


def test_a_name_like_none_gets_no_offer():
  assert lookup.near("zzz", NAMES) == ""
  assert lookup.unknown("field", "zzz", NAMES).endswith("iterations.")


def test_at_most_three_names_are_offered_the_nearest_first():
  offered = lookup.near("name1", ["name2", "name10", "name1x", "name3"])
  assert offered.startswith("did you mean name1") and offered.count(" or ") == 2


def test_a_short_name_finds_the_field_in_its_section():
  assert lookup.near("graphs", ["search.graphs"]) == "did you mean search.graphs?"


def test_what_is_no_string_is_unknown_too_and_any_iterable_may_be_known():
  assert lookup.unknown("kind", 3, iter(NAMES)).startswith(
    "unknown kind 3; allowed are"
  )
  assert lookup.near("graph", dict.fromkeys(NAMES)) == "did you mean graphs?"


def test_a_value_that_is_not_allowed_is_named_with_its_field():
  lookup.check("search.steps", "both", ("both", "role"))
  with pytest.raises(ValueError, match="search.steps='all': allowed are both, role"):
    lookup.check("search.steps", "all", ("both", "role"))
