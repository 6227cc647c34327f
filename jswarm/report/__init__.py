"""What was found, for people: tables of text, and one page of all that a run has left.

  results.json -> tables
  run directory -> records -> sections, spending -> html -> pages -> live
                              figures -> sections

Public: tables.table, tables.sweep_table, tables.draws_table, pages.render,
pages.write, pages.try_write, live.start.

Tested elsewhere: tables in launchers. records, sections, spending,
html, live in report/pages.
"""
