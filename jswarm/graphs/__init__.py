"""From continuous adjacency matrices to directed acyclic graphs.

  adjacency [G, N, N], settings -> decode -> dag.Dag <- topologies
  dag.Dag -> imprint -> adjacency;  dag.Dag -> mutate -> dag.Dag

Public: dag.Dag, dag.from_edges, decode.decode_swarm, decode.init_adjacency,
decode.TOPOLOGIES, imprint.imprint, mutate.mutate.

Tested elsewhere: dag, settings, topologies in graphs/decode.
"""
