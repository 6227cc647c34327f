"""One search in a workdir: it starts or resumes, iterates, tests, writes results.

  code, changes -> workdir -> checkpoint, ledger, log -> disk
  session -> chance -> final_test, results, progress -> loop

Public: session.Plan, session.Result, loop.run, checkpoint.Checkpoints.

Tested elsewhere: loop, session, final_test, results, workdir in run/resume.
"""
