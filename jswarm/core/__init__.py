"""Words that all rooms share: the contract `Experts`, digests, files.

  types, files -> digests
  lookup: what an unknown name may have meant; waits: what a user waits for
  quick: programs that are compiled soon; problems: raised one at a time, or collected

Public: types.Request, types.Reply, types.Experts, digests.digest, digests.fingerprint,
files.write_json, files.read_json, waits.told, lookup.near, lookup.unknown,
lookup.check, problems.attempt, quick.jit.

Tested elsewhere: types in engine/engine. digests in systems/memo. files in run/log.
"""
