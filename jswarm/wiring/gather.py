"""What each analysis runs, and gathers of it: one function an analysis, by name.

Lab -> searches, methods, measurements -> what `analysis.analyses` makes numbers of
"""

from collections.abc import Callable

import jax

from jswarm.analysis import (
  ablation,
  devices,
  diversity,
  dropout,
  experts,
  mixed,
  roles,
  runs,
  series,
  sparsity,
  transfer,
  weak,
)
from jswarm.baselines import methods as methods_lib
from jswarm.distributed.devices import local_devices
from jswarm.wiring import config as config_lib
from jswarm.wiring import measure, methods, once
from jswarm.wiring.lab import Lab, Row, Variant, members, on_task, pool_of

MERGES = ("prediction_merge", "uniform_soup")  # whose C-Gain the paper compares with


def _gain(lab: Lab) -> Row:
  rows = lab.compared(MERGES)
  systems: dict[int, Row] = {}
  for row in rows:
    if "test" in row:
      systems.setdefault(row["seed"], {})[row["method"]] = row["scores"]

  def of_seed(seed):
    run = lab.run("fixed", {}, seed)
    tested = runs.scores(run)
    others = {name: tested[name] for name in ("initial", "best_single")}
    alone = lab.measured("fixed", {}, seed, "alone")
    return {**alone, "systems": {**systems.get(seed, {}), **others}}

  return {"seeds": _good(lab, of_seed)}


def _roles(lab: Lab) -> Row:
  most = lab.config.search.iterations
  stages = []
  for seed in range(lab.seeds):
    for iteration in sorted({0, most // 4, most // 2, most}):
      variant, fields = f"iterations{iteration}", {"search.iterations": iteration}
      if iteration == most:
        variant, fields = "fixed", {}
      make = lambda: _stage(lab, variant, fields, seed)
      stages.append(lab.guarded(variant, seed, make, {"iteration": iteration}))
  return {
    "judge": lab.judge or "proxy",
    "stages": [stage for stage in stages if "failed" not in stage],
  }


def _stage(lab, variant, fields, seed):
  """The outputs of all nodes of a found system, with their labels."""
  lab.run(variant, fields, seed)
  outputs = lab.measured(variant, fields, seed, "nodes")["outputs"]
  if lab.judge:
    folder = lab.workdir(variant, seed)
    asked = [roles.prompt(o["problem"], o["output"]) for o in outputs]
    say = lambda: {"verdicts": measure.verdicts(lab.config, lab.judge, asked, folder)}
    name = "roles_by_" + "".join(c if c.isalnum() else "_" for c in lab.judge)
    said = measure.kept(folder, name, say)["verdicts"]
    labels = [roles.parse(verdict) for verdict in said]
  else:
    seen = ("problem", "output", "heard", "answers")
    labels = [roles.proxy(*(o[name] for name in seen)) for o in outputs]
  labelled = [
    {"label": label, "place": o["place"], "depth": o["depth"]}
    for o, label in zip(outputs, labels, strict=True)
  ]
  return {"outputs": labelled, "unread": sum(label is None for label in labels)}


def _ablation(lab: Lab) -> Row:
  known = methods_lib.METHODS
  families = {name: method.family for name, method in known.items()}
  kinds = (*ablation.ROLE, *ablation.WEIGHT)
  baselines = [name for name, family in families.items() if family in kinds]
  rows = lab.compared([ablation.NO_ROLE, ablation.NO_WEIGHT, *baselines])
  return {"rows": rows, "families": families}


def _diversity(lab: Lab) -> Row:
  every, rows = members(lab.config), []
  size = len(every)
  for seed in range(lab.seeds):
    for distinct, copies in diversity.layouts(size):
      chosen = diversity.places(size, distinct, seed)
      variant, fields = f"{distinct}x{copies}", pool_of(every, chosen)
      if distinct == size:
        variant, fields = "fixed", {}
      facts = {"distinct": distinct, "copies": copies}
      rows.append(lab.row(variant, fields, seed, **facts))
  return {"rows": rows}


def _experts(lab: Lab) -> Row:
  every, rows, votes = members(lab.config), [], []
  size = len(every)
  for seed in range(lab.seeds):
    for count in experts.counts(size):
      variant, fields = (
        f"experts{count}",
        pool_of(every, experts.subset(size, count, seed)),
      )
      if count == size:
        variant, fields = "fixed", {}
      row = lab.row(variant, fields, seed, experts=count)
      rows.append(row)
      if "failed" not in row:
        make = lambda: _vote(lab, variant, fields, seed, row["calls_question"])
        head = {"variant": f"votes{count}", "seed": seed, "experts": count}
        votes.append(once.guarded(head, lambda: {**make(), **head}))
  return {"rows": rows, "votes": votes}


def _vote(lab, variant, fields, seed, samples):
  """Self-consistency of the best single expert, asked so often a question."""

  def make():
    config = config_lib.override(lab.config, lab.fields(fields, seed))
    bench = methods.bench(config)
    setting = bench.setting(seed, options={"samples": samples})
    return bench.row("self_consistency", setting, methods.known())

  row = measure.kept(lab.workdir(variant, seed), "self_consistency", make)
  if "not_applicable" in row:
    return {"failed": row["not_applicable"]}
  return {
    "test": row["test"]["score"],
    "calls": row["calls"],
    "calls_question": samples,
  }


def _sparsity(lab: Lab) -> Row:
  # Graphs that are bred from graphs know neither thresholds nor prices of entries, and
  # a node that speaks to exactly one other has no connection to lose.
  swarm = {"role.method": "pso", "graph.edge_mode": "independent"}
  variants: list[Variant] = [("tau0", swarm, {"tau": 0.0, "l1": 0.0})]
  for tau in sparsity.TAUS:
    fields = {**swarm, "graph.threshold": tau}
    variants.append((f"tau{tau:g}", fields, {"tau": tau, "l1": 0.0}))
  for price in sparsity.L1S:
    fields = {**swarm, "search.l1": price}
    variants.append((f"l1_{price:g}", fields, {"tau": 0.0, "l1": price}))
  return {"rows": lab.rows(variants)}


def _dropout(lab: Lab) -> Row:
  variants = []
  for kind in dropout.KINDS:
    for a in dropout.RATES:
      for b in dropout.RATES:
        variant = f"{kind}{a:g}_{b:g}" if a or b else "fixed"
        facts = {"kind": kind, "a": a, "b": b}
        variants.append((variant, _dropped(kind, a, b), facts))
  return {"rows": lab.rows(variants)}


def _dropped(kind, a, b):
  if not a and not b:
    return {}
  if kind == "RW":
    return {"search.dropout_r": a, "search.dropout_w": b}
  swarms = ("role", "weight")
  rates = (("dropout_k", a), ("dropout_n", b))
  return {f"{swarm}.{field}": rate for swarm in swarms for field, rate in rates}


def _weak(lab: Lab) -> Row:
  every, rows = members(lab.config), []
  for seed in range(lab.seeds):
    whole = lab.row("fixed", {}, seed, pool=weak.ALL)
    rows.append(whole)
    if "failed" in whole:
      continue
    singles = lab.run("fixed", {}, seed).results["singles_dev"]
    for pool, chosen in weak.groups(singles).items():
      if not chosen:
        continue
      variant = pool.replace(" ", "_")
      row = lab.row(variant, pool_of(every, chosen), seed, pool=pool)
      rows.append({**row, "best": whole["best"]})
  return {"rows": rows}


def _mixed(lab: Lab) -> Row:
  first, second = members(lab.config), members(_needed(lab, "mixed"))
  some, others = mixed.halves(len(first), len(second))
  half = [*(first[e] for e in some), *(second[e] for e in others)]
  roles_alone = {"search.steps": "role"}
  variants = []
  for pool, mine in (("first", first), ("half", half), ("second", second)):
    fields = {**roles_alone, **pool_of(mine, range(len(mine)))}
    variants.append((f"mixed_{pool}", fields, {"pool": pool}))
  return {"rows": lab.rows(variants)}


# What is chosen on the source and tested on the target, beside a found system.
CARRIED = ("greedy_soup", "model_swarms", "gptswarm", "agent_prune")


def _transfer(lab: Lab) -> Row:
  other = _needed(lab, "transfer")
  target = on_task(lab.config, other)
  rows = []
  for seed in range(lab.seeds):
    at_home = lambda: runs.row(lab.run("target", {}, seed, target))
    home = lab.guarded("target", seed, at_home, {"system": transfer.AT_HOME})
    rows.append(home)
    if "failed" not in home:
      best = {"seed": seed, "system": transfer.BEST_TARGET, "test": home["best"]}
      rows.append(best)
    rows += _carried(lab, target, seed)
    rows += [_method(lab, target, seed, name) for name in CARRIED]
  return {
    "source": lab.config.task.name or "the source",
    "target": other.task.name or "the target",
    "rows": rows,
  }


def _carried(lab, target, seed):
  """Rows of what was chosen on the source, tested on the target."""

  def make():
    run = lab.run("fixed", {}, seed)
    fields, folder = lab.fields({}, seed), lab.workdir("fixed", seed)
    aim = config_lib.override(target, {"seed": seed})
    found = measure.elsewhere(lab.config, fields, folder, aim)
    return {**found, "source_test": runs.row(run)["test"]}

  found = lab.guarded("transfer", seed, make)
  if "failed" in found:
    return []
  mean = lambda name: series.spread(found[name])["mean"]
  moved = {"system": transfer.MOVED, "test": mean("system")}
  best = {"system": transfer.BEST_SOURCE, "test": mean("best_single")}
  return [
    {"seed": seed, "source_test": found["source_test"], **moved},
    {"seed": seed, **best},
  ]


def _method(lab, target, seed, name):
  """The row of a method that chose on the source, for the calls of the search."""

  def make():
    fields, folder = lab.fields({}, seed), lab.workdir("fixed", seed)
    calls = runs.row(lab.run("fixed", {}, seed))["calls"]
    aim = config_lib.override(target, {"seed": seed})
    config = config_lib.override(lab.config, fields)
    found = measure.method_elsewhere(config, folder, aim, name, calls)
    return {"test": series.spread(found["scores"])["mean"]}

  return lab.guarded(name, seed, make, {"system": name})


def _emergence(lab: Lab) -> Row:
  def of_seed(seed):
    run = lab.run("fixed", {}, seed)
    alone = lab.measured("fixed", {}, seed, "alone")
    moved = lab.measured("fixed", {}, seed, "moved")
    return {
      **alone,
      **moved,
      "system": runs.scores(run)["system"],
      "over_iterations": runs.over_iterations(run),
    }

  return {"seeds": _good(lab, of_seed)}


def _histories(lab: Lab) -> Row:
  def of_seed(seed):
    results = lab.run("fixed", {}, seed).results
    return {"history": results["history"], "alone": results["singles_dev"]}

  found = _good(lab, of_seed)
  return {
    "histories": [f["history"] for f in found],
    "singles": [f["alone"] for f in found],
  }


def _devices(lab: Lab) -> Row:
  there, variants = len(local_devices()), []
  for count in devices.COUNTS:
    if count > there:
      continue
    fields = {"engine.devices": count}
    # What the first search on so many devices compiles is not what an iteration takes.
    lab.row(f"devices{count}_warm", fields, 0)
    variants.append((f"devices{count}", fields, {"devices": count}))
  simulated = there > 1 and jax.default_backend() == "cpu"
  return {"rows": lab.rows(variants), "there": there, "simulated": simulated}


def _good(lab, of_seed):
  """What is made of each seed, of those that did not fail."""
  made = [
    lab.guarded("fixed", seed, lambda s=seed: of_seed(s)) for seed in range(lab.seeds)
  ]
  return [record for record in made if "failed" not in record]


def _needed(lab, name):
  if lab.other is None:
    raise ValueError(
      f"--analysis={name} compares with a second configuration: name it with --other."
    )
  return lab.other


GATHER: dict[str, Callable[[Lab], Row]] = {
  "gain": _gain,
  "roles": _roles,
  "ablation": _ablation,
  "diversity": _diversity,
  "experts": _experts,
  "sparsity": _sparsity,
  "dropout": _dropout,
  "weak": _weak,
  "mixed": _mixed,
  "transfer": _transfer,
  "emergence": _emergence,
  "jfk_noise": _histories,
  "moves": _histories,
  "devices": _devices,
}
