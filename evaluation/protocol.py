"""The protocol: every optimizer on one family, tuned and reported on other seeds."""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from evaluation import curves, entrants, tuning
from evaluation.entrants import Contender
from evaluation.tuning import METRICS, Choice
from lopt.baselines import BASELINES, Baseline
from tasks.base import TaskFamily

Say = Callable[[str], None]


class Seeds(NamedTuple):
    """Seeds to tune on, and others to report on."""

    tuning: tuple[int, ...]
    reporting: tuple[int, ...]


class Entry(NamedTuple):
    """One optimizer at one length, tuned for one metric, on the reporting seeds.

    Attributes:
      name: of the optimizer.
      candidate: whether it is judged against the baselines, not one of them.
      num_steps: updates per run, T.
      metric: key of `METRICS` that its hyperparameters were chosen for.
      choice: of the tuning; None for what is not tuned.
      values: [s], the metric on each reporting seed.
      curves: of the same runs, with h = 1.
    """

    name: str
    candidate: bool
    num_steps: int
    metric: str
    choice: Choice | None
    values: np.ndarray
    curves: curves.Curves


class Results(NamedTuple):
    """What an evaluation found.

    Attributes:
      entries: one for each optimizer, length and metric.
      settings: JSON values that it was called with.
      trials: {optimizer: trials tuned over, at each length}; 0 where untuned.
      state_bytes: {optimizer: bytes of its state per parameter}.
      seconds: {"total", "compile"}: wall-clock, and compiling as part of it.
      notes: warnings, such as optima at the edge of a grid.
    """

    entries: tuple[Entry, ...]
    settings: dict[str, Any]
    trials: dict[str, int]
    state_bytes: dict[str, float]
    seconds: dict[str, float]
    notes: tuple[str, ...]


def evaluate(
    optimizers: Mapping[str, Baseline | Callable[..., Any]],
    family: TaskFamily,
    *,
    num_steps: Sequence[int],
    tuning_seeds: Sequence[int],
    reporting_seeds: Sequence[int],
    valid_every: int,
    say: Say = print,
) -> Results:
    """Returns the losses of optimizers on the reporting seeds.

    What has a space of hyperparameters is tuned over all of it on the tuning seeds,
    at each length and for each metric by itself, so that nobody can say that it was
    tuned for another. Runs of equal seeds are paired across optimizers.

    Args:
      optimizers: by name; a `Baseline`, tuned over its space, or any function
        `num_steps=... -> Optax transformation`, taken as it is. Those whose names
        are not in `BASELINES` are candidates.
      family: of tasks; a seed draws one, its start and its batches.
      num_steps: lengths of runs, in updates, each a multiple of `valid_every`.
      tuning_seeds: to choose hyperparameters on.
      reporting_seeds: others, for the results.
      valid_every: updates between looks at the validation loss.
      say: takes lines of progress.

    Raises:
      ValueError: if seeds overlap, a length does not fit, or an optimizer cannot be
        built; before anything is compiled.
    """
    settings = {
        "family": family.name,
        "optimizers": list(optimizers),
        "num_steps": list(num_steps),
        "tuning_seeds": list(tuning_seeds),
        "reporting_seeds": list(reporting_seeds),
        "valid_every": valid_every,
    }
    seeds = Seeds(tuple(tuning_seeds), tuple(reporting_seeds))
    check(num_steps, valid_every, *seeds)
    contenders = {n: entrants.contender(x, family) for n, x in optimizers.items()}
    with _noting() as notes:
        sizes = _state_bytes(contenders, family, num_steps)
    track, entries = curves.track(family, valid_every=valid_every), []
    with _watch() as seconds:
        for name, contender in contenders.items():
            traced = contender.traced_length
            runner = curves.runner(track, contender.factory, traced_length=traced)
            for length in num_steps:
                entries += _judge(name, contender, runner, length, seeds, say)
    return Results(
        entries=tuple(entries),
        settings=settings,
        trials={name: len(x.trials) for name, x in contenders.items()},
        state_bytes=sizes,
        seconds=seconds,
        notes=(*notes, *_edge_notes(entries)),
    )


def check(
    num_steps: Sequence[int],
    valid_every: int,
    tuning_seeds: Sequence[int],
    reporting_seeds: Sequence[int],
) -> None:
    """Raises ValueError if seeds overlap, or a length does not fit."""
    tuning.disjoint(tuning_seeds, reporting_seeds)
    for length in num_steps:
        curves.check_length(length, valid_every)


def _judge(
    name: str,
    contender: Contender,
    runner: curves.Runner,
    length: int,
    seeds: Seeds,
    say: Say,
) -> list[Entry]:
    """Returns an optimizer's entries at one length, one for each metric."""
    began, choices = time.monotonic(), dict.fromkeys(METRICS)
    if contender.trials:
        choices = tuning.tune(
            runner, contender.space, num_steps=length, seeds=seeds.tuning
        )
    # All three, also where they are equal: the same program serves all lengths.
    own = [x.hyperparameters for x in choices.values() if x] or [{}]
    found = curves.run(
        runner, num_steps=length, seeds=seeds.reporting, hyperparameters=own
    )
    count = f"{len(contender.trials)} trials" if contender.trials else "not tuned"
    say(f"{name}, {length} steps: {count}, {time.monotonic() - began:.1f} s")
    return [
        _entry(name, length, metric, choices[metric], found, i % len(own))
        for i, metric in enumerate(METRICS)
    ]


def _entry(
    name: str,
    length: int,
    metric: str,
    choice: Choice | None,
    found: curves.Curves,
    index: int,
) -> Entry:
    columns = (found.train, found.valid, found.accuracy)
    own = curves.Curves(*(x[index : index + 1] for x in columns), found.valid_steps)
    values = METRICS[metric](own)[0]
    return Entry(name, name not in BASELINES, length, metric, choice, values, own)


def _state_bytes(
    contenders: Mapping[str, Contender], family: TaskFamily, lengths: Sequence[int]
) -> dict[str, float]:
    """Builds each optimizer at each length, for its warnings and its state's size."""
    return {
        name: max(
            entrants.state_bytes(x, family, num_steps=length) for length in lengths
        )
        for name, x in contenders.items()
    }


def _edge_notes(entries: Sequence[Entry]) -> Iterator[str]:
    """Yields a warning for each choice at the edge of its grid."""
    for entry in entries:
        for edge in entry.choice.edges if entry.choice else ():
            yield (
                f"{entry.name} at {entry.num_steps} steps, tuned for {entry.metric}: "
                f"its best {edge}={entry.choice.hyperparameters[edge]:.3g} lies at the "
                "edge of the grid; a wider one may be better."
            )


@contextlib.contextmanager
def _noting() -> Iterator[list[str]]:
    """Yields a list that holds, afterwards, the warnings of the block, each once."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield notes
    notes += dict.fromkeys(str(x.message) for x in caught)


@contextlib.contextmanager
def _watch() -> Iterator[dict[str, float]]:
    """Yields a dict that holds, afterwards, seconds in total and of compiling."""
    seconds = {"total": 0.0, "compile": 0.0}

    def listen(event: str, duration: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            seconds["compile"] += duration

    began = time.monotonic()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seconds
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
        seconds["total"] = time.monotonic() - began
