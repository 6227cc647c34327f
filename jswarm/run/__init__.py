"""One search in a workdir: it starts or resumes, iterates, tests, writes results.

  loop -> workdir, checkpoint, log

Public: loop.Plan, loop.Result, loop.run, checkpoint.Checkpoints.

Tested elsewhere: loop, workdir, checkpoint in run/resume.
"""
