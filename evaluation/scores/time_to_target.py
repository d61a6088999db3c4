"""How soon optimizers reach the targets of tasks, as AlgoPerf times them."""

from typing import NamedTuple

import numpy as np

from evaluation.runs.results import Cell, Results
from evaluation.scores import algoperf


class Pool(NamedTuple):
    """Times to the targets of optimizers under one rule of AlgoPerf.

    Attributes:
      optimizers: o names.
      tasks: w names.
      times: {"steps", "seconds"}: [o, w], infinite for a miss.
    """

    optimizers: list[str]
    tasks: list[str]
    times: dict[str, np.ndarray]


def targets(results: Results) -> dict[str, float]:
    """Returns {task: the validation loss to reach}, as AlgoPerf sets it.

    The best baseline's median over seeds of the best validation loss within 3/4 of
    the steps; tasks on which no baseline has one are left out.
    """
    found = {}
    for task in results.settings["tasks"]:
        aims = [x.aims for x in results.cells if x.task == task and x.aims is not None]
        if aims and np.isfinite(np.median(np.stack(aims), -1)).any():
            found[task] = algoperf.target(np.stack(aims))
    return found


def pool(results: Results, aims: dict[str, float], rule: str) -> Pool:
    """Returns times to targets under a rule.

    Args:
      results: of an evaluation.
      aims: from `targets`.
      rule: "tuned": a study is a tuning seed, its time that of the fastest trial; what
        is not tuned has one trial. "untuned": a study is a reporting seed, run at
        defaults.
    """
    names, tasks = list(results.settings["optimizers"]), list(aims)
    pairs = [[_times(results.cell(o, w), rule, aims[w]) for w in tasks] for o in names]
    steps = np.array(pairs).reshape(len(names), len(tasks), 2)
    return Pool(names, tasks, {"steps": steps[..., 0], "seconds": steps[..., 1]})


def _times(cell: Cell, rule: str, aim: float) -> tuple[float, float]:
    """Returns steps and seconds to a target, infinite for a miss."""
    if cell.error:
        return np.inf, np.inf
    default = cell.chosen["default"].curves
    valid = default.valid[0][:, None]  # [studies, trials, v]
    if rule == "tuned" and cell.tried:
        valid = cell.tried.valid.transpose(1, 0, 2)
    # The start is no step: what reaches the target there has taken one.
    steps = np.maximum(default.steps, 1)
    times = algoperf.time_to_target(steps, valid, target=aim)
    taken = float(algoperf.study_time(times))
    return taken, taken * cell.cost.seconds
