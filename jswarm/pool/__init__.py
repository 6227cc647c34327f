"""Where experts come from: what users write -> checked -> groups that share a base.

  specs -> own_text -> load -> Pool of Groups
                       load -> sound: the pool without experts that are refused
  download: models inside PyPI wheels, hub snapshots -> test_sets: data beside them

Public: specs.Spec, specs.parse_specs, load.Pool, load.Group, load.load_pool,
sound.sound.
"""
