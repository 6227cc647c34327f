"""Configurations -> typed settings and callables: where the two wings meet.

  defaults -> config -> Resolved -> search, system, training; search -> methods
                                 -> memory -> validate
                                           -> rehearsal -> estimate

Public: defaults.get_config, config.override, config.resolve, config.Resolved,
search.plan, methods.bench, system.load_system, training.arguments, validate.check,
estimate.estimate.

Tested elsewhere: defaults, search in wiring/config. system in systems/artifact.
training in training/pool. memory in wiring/validate.
rehearsal in wiring/estimate.
"""
