"""What measured rows say: comparisons of methods, with their statistics.

  rows of methods -> compare -> table
                  -> curves -> figure

Public: compare.summaries, compare.markdown, compare.holm, curves.draw.
"""
