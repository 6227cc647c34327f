"""Configurations -> typed settings and callables: where the two wings meet.

  defaults -> config -> Resolved -> search, system, training
                                 -> memory -> validate: known before

Public: defaults.get_config, config.override, config.resolve, config.Resolved,
search.plan, system.load_system, training.arguments, validate.check.

Tested elsewhere: defaults, search in wiring/config. system in systems/artifact.
training in training/pool. memory in wiring/validate.
"""
