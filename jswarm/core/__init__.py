"""Words that all rooms share: the contract `Experts`, digests, files.

  types, files -> digests; waits: what a user waits for, as lines of the log

Public: types.Request, types.Reply, types.Experts, digests.digest, digests.fingerprint,
files.write_json, files.read_json, waits.told.

Tested elsewhere: types in engine/engine. digests in systems/memo. files in run/log.
"""
