"""Data, prompts and scores: what a system is asked, and what its answer is worth.

  wishes -> load -> base.Task;  load <- drop <- data <- read, published
  kinds -> prompts, options, parse -> numbers, cues -> normalize
  votes: what a reply votes for
  custom -> again: a utility of the user's own, which may ask to be tried again
  reproducible -> gym -> load: generators of the package reasoning-gym
  synthetic: tasks made here, with a pool that was trained for them

Public: base.Task, base.Example, base.DataError, base.UtilityError, again.TryAgain,
load.load_task, wishes.Source, wishes.Wishes, wishes.Judging, published.TASKS,
kinds.KINDS, gym.load, votes.reader.

Tested elsewhere: base, custom, kinds, prompts, published in tasks/load. read in
tasks/data. options, cues, normalize, numbers in tasks/parse. synthetic/stories in
tasks/synthetic/words.
"""
