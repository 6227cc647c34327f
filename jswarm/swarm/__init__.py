"""Who moves: particle swarms over adjacencies and over weights.

  motion -> pso -> guard;  state;  racing -> problem -> proposals
  proposals -> role_step;  weight_moves, contribution (JFK-score) -> weight_step
  role_step, weight_step -> steps

Public: pso.start, pso.ask, pso.tell, motion.Settings, contribution.jfk_score,
state.State, state.Settings, steps.start, steps.iterate.

Tested elsewhere: motion in swarm/pso. problem, role_step, state in swarm/steps.
"""
