"""Methods to compare a search with: each finds one answerer for the same budget.

  base -> best_single, soups, random_search, fixed_graphs, votes, prompts -> methods
  base -> lorahub, model_swarms, pack_of_llms, merges, data_merge -> methods
  base -> edge_policy, decisions -> gptswarm, agent_prune, learned_edges -> methods
  base -> agentverse, macnet, meta_agent -> methods

Public: base.Setting, base.Method, base.Found, base.NotApplicable, methods.METHODS,
methods.find.

Tested elsewhere: base in baselines/methods.
"""
