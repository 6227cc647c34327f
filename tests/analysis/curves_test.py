"""Mean curves of dev utility against calls."""

import numpy as np

from jswarm.analysis import curves


def test_a_mean_curve_steps_where_its_seeds_do():
  calls, best = curves.mean_curve([[(10, 0.2), (30, 0.6)], [(20, 0.4)]])
  assert calls[0] == 20 and calls[-1] == 30
  np.testing.assert_allclose([best[0], best[-1]], [0.3, 0.5])
  assert (np.diff(best) >= 0).all()


def test_the_figure_names_its_methods_and_rows_without_a_curve_are_left_out(tmp_path):
  rows = [
    {"method": "fixed", "curve": [(1, 0.1), (2, 0.2)]},
    {"method": "soup", "not_applicable": "no"},
  ]
  curves.draw(rows, tmp_path / "curves.svg")
  assert "<svg" in (tmp_path / "curves.svg").read_text()
