"""Runs systems of experts and scores what they say.

  system -> prompts -> waves -> memo, budget -> system_memo -> evaluate -> scores
  artifact: a found system as a folder

Public: system.System, system.Job, system.make_job, prompts.Wording, waves.run,
evaluate.Evaluator, evaluate.Evaluation, artifact.save, artifact.read.

Tested elsewhere: system, prompts in systems/waves. budget in systems/memo.
"""
