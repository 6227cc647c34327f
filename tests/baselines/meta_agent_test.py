"""Meta-Agent: graphs as JSON, checked; nonsense costs no more than its calls."""

import json

import numpy as np
import pytest

from jswarm.baselines import meta_agent
from jswarm.core.types import Reply
from jswarm.systems.evaluate import Unheard
from tests.baselines.gptswarm_test import planted
from tests.baselines.settings import dev_of, setting

SHORT = {"generations": 3, "reflections": 0}


def wrote(edges, end, **more):
  return json.dumps({"thought": "t", "name": "n", "edges": edges, "end": end, **more})


def scripted(*replies):
  """An endpoint that says these in turn, the last one for ever; and its prompts."""
  said, prompts = list(replies), []

  def ask(requests):
    prompts.extend(request.prompt for request in requests)
    return [Reply(said.pop(0) if len(said) > 1 else said[0], 1, 1) for _ in requests]

  return ask, prompts


def test_a_better_graph_that_is_proposed_is_found():
  ask, prompts = scripted("no idea", f"Here: {wrote([[0, 2]], 2)} Good luck!")
  made = setting(*planted(), options={**SHORT, "meta": ask})
  found = meta_agent.meta_agent(made)
  assert found.notes["edges"] == [[0, 2]] and found.notes["end"] == 2
  assert found.dev == dev_of(made, found.answerer) == 0.9 > made.curve[0][1]
  assert found.notes["generations"] == 1  # then it only repeats what is known
  assert found.notes["meta_calls"] == len(prompts)


@pytest.mark.parametrize(
  "garbage", ["", "{", "[[0,1]]", '{"edges": 3}', "{" * 9 + '{"edges":' + "[" * 100_000]
)
def test_garbage_ends_in_the_best_of_the_seeds(garbage):
  made = setting(options={**SHORT, "meta": scripted(garbage)[0]})
  found = meta_agent.meta_agent(made)
  assert found.dev == max(made.curve[0][1], made.singles.max())
  assert found.dev == dev_of(made, found.answerer)
  assert found.notes["generations"] == 0 and found.notes["failed"] == 6
  assert found.notes["meta_calls"] == 6 * 4  # each tried again three times


def test_failed_generations_are_made_up_for():
  made = setting()
  fine = [wrote([[i, 3]], 3) for i in range(3)]
  ask, _ = scripted("?", "?", "?", "?", fine[0], fine[1], "?", fine[2])
  made.options = {**SHORT, "meta": ask}
  notes = meta_agent.meta_agent(made).notes
  assert (notes["generations"], notes["failed"]) == (3, 1)


def test_reflections_and_refusals_are_told_what_they_are_about():
  made = setting()
  cycle = wrote([[0, 1], [1, 0]], 2)
  ask, prompts = scripted(cycle, cycle, cycle, wrote([[0, 1]], 1))
  made.options = {"generations": 1, "meta": ask}
  assert meta_agent.meta_agent(made).notes["generations"] == 1
  first, again, tidy, refused = prompts
  assert "expert2" in first and "chain" in first and "dev question 0" in first
  assert cycle in again and "without a cycle" in again and "cleanly" in tidy
  assert "refused" in refused and "acyclic" in refused


def test_a_reflection_that_spoils_a_proposal_does_not_undo_it():
  ask, prompts = scripted(wrote([[0, 1]], 1), "thank you", "you are welcome")
  made = setting(options={"generations": 1, "meta": ask})
  found = meta_agent.meta_agent(made)
  assert found.notes["generations"] == 1 and len(prompts) == 3


@pytest.mark.parametrize(
  "edges, end, why",
  [
    ([[0, 1], [1, 2], [2, 0]], 3, "cycle"),
    ([[0, 1]], 0, "without outgoing"),
    ([[0, 1], [2, 3]], 3, r"nodes \[0, 1\] no path"),
    ([[0, 4]], 0, "pairs"),
    ([[0, -1]], 0, "pairs"),
    ([[0, 1, 2]], 0, "pairs"),
    ([[0, True]], 1, "pairs"),
    ([["0", "1"]], 1, "pairs"),
    ([[0, 1]], None, "pairs"),
    ([[0, 1]], 1.0, "pairs"),
    ({"0": 1}, 1, "pairs"),
  ],
)
def test_a_graph_that_is_none_is_refused_with_the_reason(edges, end, why):
  with pytest.raises(ValueError, match=why):
    meta_agent.read(wrote(edges, end), 4)


def test_a_program_is_no_graph_and_nothing_of_it_is_run():
  code = '__import__("os").abort()'
  with pytest.raises(ValueError, match="no JSON object"):
    meta_agent.read(f"def forward(task): {code}", 4)
  found = meta_agent.read(f"{code} {{}} {wrote([[0, 1], [0, 1]], 1, code=code)}", 4)
  assert found == meta_agent.Proposal("n", ((0, 1),), 1)


def test_experts_may_be_left_out():
  made = setting()
  job = meta_agent.read(wrote([], 2), 4).job(made)
  assert dev_of(made, job) == made.singles[2]


def test_an_expert_of_the_pool_proposes_within_the_budget():
  made = setting(calls=150, options={"generations": 3, "meta": "expert2"})
  found = meta_agent.meta_agent(made)
  assert made.spent <= 150
  # Numbers are no JSON: all its calls are charged, and none is a generation.
  assert found.notes["failed"] > 0 == found.notes["generations"]
  assert made.spent == 60 + found.notes["meta_calls"]


def test_a_small_context_is_told_of_fewer_graphs():
  made = setting(options={**SHORT, "meta": "expert1"})
  archive = meta_agent._seeds(made)
  whole = meta_agent._prompt(made, meta_agent._Meta(made), archive, 1, "tail")
  room = len(whole.split()) - 1
  tight = made.experts._replace(room=lambda expert, limit: room)
  made.problem = made.problem._replace(experts=tight)
  prompt = meta_agent._prompt(made, meta_agent._Meta(made), archive, 1, "tail")
  best, *_, worst = meta_agent._by_dev(archive)
  assert best.line() in prompt and worst.line() in whole
  assert worst.line() not in prompt and prompt.endswith("tail")


def test_an_endpoint_that_says_nothing_is_a_failure_and_no_crash():
  made = setting(options={**SHORT, "meta": lambda requests: [Unheard("gone")]})
  found = meta_agent.meta_agent(made)
  assert found.notes["failed"] == 6 and not np.isnan(found.dev)


def test_an_unknown_meta_model_lists_the_experts():
  with pytest.raises(ValueError, match="meta='gpt'.*expert0"):
    meta_agent.meta_agent(setting(options={"meta": "gpt"}))
