"""Who moves: particle swarms over adjacencies and over weights.

  motion -> pso -> guard;  state;  contribution (JFK-score), racing -> steps

Public: pso.start, pso.ask, pso.tell, motion.Settings, contribution.jfk_score,
state.State, state.Settings, steps.start, steps.iterate.

Tested elsewhere: motion in swarm/pso. state in swarm/steps.
"""
