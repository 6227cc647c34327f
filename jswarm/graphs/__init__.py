"""From continuous adjacency matrices to directed acyclic graphs.

  adjacency [G, N, N] -> decode -> dag.Dag <- topologies

Public: dag.Dag, dag.from_edges, decode.decode_swarm, decode.init_adjacency,
decode.TOPOLOGIES.

Tested elsewhere: dag, topologies in graphs/decode.
"""
