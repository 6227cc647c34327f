"""Speed of the parts of a search, each beside what others offer for the same job.

  workload, peers, published, roofline -> a file a suite -> harness -> suites -> report
  worlds -> methods, credit: no speed, but what there is to find in synthetic worlds
  reference -> parity -> lowering -> accelerator -> checks: a first accelerator's check

Peers are optional packages; a row says so where one is missing.

Public: suites.SUITES, suites.chosen, harness.Options, harness.Record.

Tested elsewhere: child, compile, decode, experts, generate, harness, peers, pso,
published, report, roofline, scaling, search, speculate, workload in benchmarks/suites.
checks, parity, reference in benchmarks/accelerator.
"""
