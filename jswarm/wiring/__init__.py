"""Configurations -> typed settings and callables: where the two wings meet.

  defaults -> config -> skipping -> Resolved -> search, system, training
                                             search -> lending -> methods -> contest
                                             search -> once -> contest, sweep
                                  contest, measure -> lab -> gather -> analyse
                                             -> memory -> validate
                                                       -> rehearsal -> estimate
  search, system -> ablations: a run's system without each of its parts
          system -> exports: a saved system in the forms of other programs

Public: defaults.get_config, config.override, config.resolve, config.Resolved,
search.plan, methods.bench, sweep.run, analyse.run, lab.Lab, system.load_system,
training.arguments, validate.check, estimate.estimate, exports.export,
ablations.measure.

Tested elsewhere: defaults, search in wiring/config. system in systems/artifact.
training in training/pool. memory in wiring/validate. skipping in pool/sound.
rehearsal in wiring/estimate. once, measure, lab, gather in wiring/analyse. ablations in
launchers.
"""
