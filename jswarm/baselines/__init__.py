"""Methods to compare a search with: each finds one answerer for the same budget.

  base -> best_single, fixed_graphs, votes, prompts -> methods
  base -> soups -> random_search, lorahub, model_swarms, pack_of_llms -> methods
  base -> merges, data_merge -> methods
  base -> edge_policy, decisions -> gptswarm, agent_prune, learned_edges -> methods
  base -> asking -> agentverse, macnet; base -> meta_agent -> methods

Public: base.Setting, base.Method, base.Found, base.NotApplicable, methods.METHODS,
methods.find.

Tested elsewhere: base in baselines/methods.
"""
