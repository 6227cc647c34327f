"""What was found, for people.

  results.json -> tables

Public: tables.table, tables.sweep_table, tables.draws_table.

Tested elsewhere: tables in launchers.
"""
