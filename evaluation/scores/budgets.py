"""What tuning cost each optimizer, and what more of it would bring."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from evaluation import statistics
from evaluation.runs import entrants
from evaluation.runs.results import Results


class Budget(NamedTuple):
    """What was spent on an optimizer.

    Attributes:
      trials: of its tuning, on each task and length.
      tuning_seeds: on which each trial was run.
      tuning_steps: inner steps of its tuning, of all tasks together.
      reporting_seeds: on which it is judged.
      by_trials: [n] the best loss by so many trials over that by all; None for what
        has no search of ever more trials.
      last_doubling: share of the loss that the last doubling of the trials took off.
    """

    trials: int
    tuning_seeds: int
    tuning_steps: int
    reporting_seeds: int
    by_trials: list[float] | None
    last_doubling: float | None


def budgets(results: Results) -> dict[str, Budget]:
    """Returns what was spent on each optimizer."""
    settings, found = results.settings, {}
    seeds = len(settings["tuning"]["seeds"])
    for name, setting in settings["optimizers"].items():
        lengths = {1}
        if name in (settings["reference"], entrants.CONSTANT):
            lengths |= {*settings["reference_lengths"]}
        steps = sum(settings["tasks"][x]["num_steps"] for x in _at(name, results))
        curve = by_trials(results, name)
        found[name] = Budget(
            trials=setting["trials"],
            tuning_seeds=seeds if setting["trials"] else 0,
            tuning_steps=setting["trials"] * seeds * steps * sum(lengths),
            reporting_seeds=len(settings["seeds"]),
            by_trials=None if curve is None else curve.tolist(),
            last_doubling=None if curve is None else last_doubling(curve),
        )
    return found


def by_trials(results: Results, name: str) -> np.ndarray | None:
    """Returns [n] the best loss by so many trials, over that by all of them.

    Losses are final training losses: geometric means over tasks, on the tuning seeds.
    """
    if not results.settings["optimizers"][name].get("sequential"):
        return None
    tried = [x.tried for x in results.cells if x.optimizer == name and x.tried]
    if not tried:
        return None
    rows = np.stack([x.values["final"].mean(-1) for x in tried])
    best = np.minimum.accumulate(rows, axis=1)
    last = np.broadcast_to(best[:, -1:], best.shape)
    return np.exp(statistics.loss_ratio(best, last).mean(0))


def last_doubling(curve: np.ndarray) -> float:
    """Returns the share of the loss that the second half of the trials took off.

    >>> last_doubling(np.array([4.0, 2.0, 1.0]))
    0.5
    """
    half = (len(curve) + 1) // 2
    return float(1 - curve[-1] / curve[half - 1])


def _at(name: str, results: Results) -> Iterator[str]:
    """Yields the tasks that an optimizer is tuned on, twice where its twin is too."""
    settings = results.settings
    transfer, twin = settings["tuning"]["transfer"], name == settings["reference"]
    pairs = {}
    for task, setting in settings["tasks"].items():
        # Under transfer only what tasks grew from is tuned on.
        place = setting["growth"]["base"] if transfer and setting["growth"] else task
        pairs[place, "own"] = place
        if twin and setting.get("twin"):
            pairs[place, "twin"] = place
    yield from pairs.values()
