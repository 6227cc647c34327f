"""Runs systems of experts and scores what they say.

  weights, prompts -> answerer -> system, answerers -> waves
  budget -> memo -> system_memo -> evaluate -> scores
  drawing -> card, portable -> artifact: a found system as a folder, and as a picture
  traces: what each node said; ablations: what each node and edge is worth
  killable: a utility with a time limit; http_judge: one behind a URL

Public: system.System, system.Job, system.make_job, answerer.Answerer, prompts.Wording,
waves.run, evaluate.Evaluator, evaluate.Evaluation, artifact.save, artifact.read.

Tested elsewhere: system, prompts, answerer in systems/waves. budget, weights in
systems/memo. card, portable in systems/artifact.
"""
