"""Is the better ablation of the kind of the better baselines?"""

import numpy as np
import pytest

from jswarm.analysis import ablation

# Test scores of the paper's Table 1: MMLU-pro, K-Cross, COM2, GSM8k, NLGraph, Normad,
# GAIA-text, AB-kg, AB-ltp, Qasper, AbstainQA, WoW.
TABLE = """
.176 .370 .377 .143 .423 .415 .071 .242 .112 .147 -.025 .461 data_merge
.206 .295 .519 .352 .500 .430 .036 .392 .105 .166 .003 .455 uniform_soup
.230 .372 .476 .307 .544 .427 .071 .300 .108 .137 .140 .515 dare_ties
.219 .355 .539 .330 .530 .543 .071 .333 .114 .184 .014 .565 greedy_soup
.235 .327 .512 .327 .532 .543 .143 .392 .106 .157 .095 .545 pack_of_llms
.231 .291 .502 .354 .568 .548 .071 .375 .106 .169 .064 .530 lorahub
.254 .428 .505 .459 .672 .554 .107 .358 .135 .225 .175 .540 model_swarms
.216 .310 .495 .295 .462 .489 .143 .325 .148 .218 .014 .493 chain
.250 .342 .508 .333 .545 .518 .036 .283 .130 .216 .125 .499 star
.216 .320 .460 .334 .611 .510 .143 .333 .134 .216 .023 .492 gptswarm
.212 .276 .477 .433 .515 .369 .071 .325 .112 .167 .016 .472 meta_agent
.214 .321 .497 .180 .460 .467 .107 .333 .122 .211 -.005 .470 agent_prune
.201 .339 .479 .364 .593 .530 .071 .308 .148 .203 .076 .503 learned_edges
.242 .352 .515 .392 .530 .564 .107 .317 .140 .222 .133 .539 weight_only
.237 .342 .492 .363 .588 .557 .143 .325 .164 .241 .119 .510 role_only
.312 .450 .579 .481 .660 .588 .250 .425 .215 .266 .220 .590 fixed
"""
FAMILIES = {
  **dict.fromkeys(
    "data_merge uniform_soup dare_ties".split(),
    "static weights",
  ),
  **dict.fromkeys(
    "greedy_soup pack_of_llms lorahub model_swarms".split(), "dynamic weights"
  ),
  **dict.fromkeys(("chain", "star"), "static roles"),
  **dict.fromkeys(
    "gptswarm meta_agent agent_prune learned_edges".split(), "dynamic roles"
  ),
}


def _paper():
  """{method: test scores of the twelve tasks}."""
  lines = [line.split() for line in TABLE.split("\n") if line]
  return {name: [float(x) for x in values] for *values, name in lines}


def _rows(task):
  return [
    {"method": m, "seed": 0, "test": {"score": s[task]}, "scores": [s[task]]}
    for m, s in _paper().items()
  ]


def test_the_means_are_those_that_the_paper_prints_beside_its_ablations():
  """GSM8k .481 .392 .363 .323 .325; NLGraph .660 .530 .588 .531 .538."""
  for task, printed in (
    (3, (0.481, 0.392, 0.363, 0.323, 0.325)),
    (4, (0.660, 0.530, 0.588, 0.531, 0.538)),
  ):
    found = ablation.numbers({"rows": _rows(task), "families": FAMILIES})["columns"]
    means = [
      found[c]["mean"] for c in ("full", "no_role", "no_weight", "roles", "weights")
    ]
    assert means == pytest.approx(printed, abs=6e-4)


def test_on_the_papers_table_ten_of_twelve_tasks_are_consistent():
  agree = [
    ablation.numbers({"rows": _rows(task), "families": FAMILIES})["consistent"]
    for task in range(12)
  ]
  assert sum(agree) == 10


@pytest.mark.parametrize(
  "columns, verdict",
  [
    ((0.2, 0.3, 0.5, 0.4), True),  # roles matter, and baselines of roles are better
    ((0.2, 0.3, 0.4, 0.5), False),
    ((0.3, 0.2, 0.4, 0.5), True),
    ((0.3, 0.2, 0.5, 0.4), False),
    ((0.3, 0.3, 0.5, 0.4), False),  # neither matters more
    ((0.3, np.nan, 0.5, 0.4), None),
  ],
)
def test_consistent_is_as_the_paper_defines_it(columns, verdict):
  assert ablation.consistent(*columns) is verdict


def test_steps_are_tested_on_the_questions_that_both_have():
  rows = [
    {"method": "fixed", "seed": 0, "test": {"score": 1.0}, "scores": [1.0] * 20},
    {"method": "role_only", "seed": 0, "test": {"score": 0}, "scores": [0.0] * 20},
    {"method": "weight_only", "seed": 1, "test": {"score": 0}, "scores": [0.0] * 20},
    {"method": "chain", "seed": 0, "failed": "KeyError: x"},
  ]
  found = ablation.numbers({"rows": rows, "families": FAMILIES})
  assert found["full_over_no_weight"]["difference"] == 1.0
  assert found["full_over_no_role"] is None  # of another seed
  assert found["consistent"] is None and found["left_out"] == ["chain"]
  told = ablation.findings(found)
  assert "cannot be said" in told and "Without a score: chain." in told
