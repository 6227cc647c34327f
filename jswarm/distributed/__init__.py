"""Devices of a process, and several processes: the only room that knows either.

  devices                  rows and experts spread over devices (pmap, shard_map)
  watchdog -> processes    exchange between processes, and what happens when one is lost

Public: devices.Replicas, devices.local_devices, processes.initialize,
processes.exchange, processes.spread, watchdog.RankError.

Tested elsewhere: watchdog in distributed/processes.
"""
