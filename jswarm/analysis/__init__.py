"""What measured rows say: comparisons of methods, and the analyses of the paper.

  rows of methods -> compare -> table
                  -> curves -> figure
  folders of runs -> runs -> (wiring gathers) -> analyses: gain, roles, ablation,
    diversity, experts, sparsity, dropout, weak, mixed, transfer, emergence, histories,
    devices, all on series -> figures -> JSON, figure, paragraph

Public: compare.summaries, compare.markdown, compare.holm, curves.draw,
analyses.ANALYSES, analyses.write, runs.read.

Tested elsewhere: diversity, experts, sparsity, dropout, weak, mixed, transfer, devices
in analysis/variants. figures in analysis/analyses.
"""
