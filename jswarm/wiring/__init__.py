"""Configurations -> typed settings and callables: where the two wings meet.

  defaults -> config -> Resolved -> search, system, training

Public: defaults.get_config, config.override, config.resolve, config.Resolved,
search.plan, system.load_system, training.arguments.

Tested elsewhere: defaults, search in wiring/config. system in systems/artifact.
training in training/pool.
"""
