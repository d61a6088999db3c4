"""Cells: one optimizer on one task, tuned, run, and judged by itself."""

import contextlib
import functools
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from common import disk
from evaluation.runs import bench, curves, entrants, tuning
from evaluation.runs.bench import Bench, Place, Stand
from evaluation.runs.curves import Curves
from evaluation.runs.results import Cell, Chosen, Tried
from evaluation.runs.tuning import METRICS, Tuning
from lopt.baselines import BASELINES, Baseline

TRACED = (
    "its hyperparameters are traced, that all trials share one program, and it makes "
    "Python or NumPy numbers of one. Some of Optax's schedules do; lopt.schedules do "
    "not."
)
TRACER_ERRORS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
TWINS = {"adam": "muadam", "sgdm": "musgd"}  # the same under muP


class Plan(NamedTuple):
    """What is the same for all cells; see `evaluate`."""

    tuning: Tuning
    seeds: tuple[int, ...]
    reference: str | None
    factors: tuple[int, ...]

    @property
    def measures(self) -> tuple[str, ...]:
        """Returns what others' speed-ups are measured by, and runs for longer too."""
        return () if self.reference is None else (self.reference, entrants.CONSTANT)


def guarded(
    name: str,
    entrant: Baseline,
    place: Place,
    tuned_at: Place,
    plan: Plan,
    maker: Bench,
    notes: list[str],
) -> Cell:
    """Returns a cell, or what went wrong in it, which costs that cell alone."""
    try:
        with _noting(notes):
            cell = _cell(name, entrant, place, tuned_at, plan, maker)
    except (sqlite3.Error, disk.DiskFull):
        raise  # no fault of the optimizer's
    except TRACER_ERRORS as error:
        return Cell(name, place.name, f"{type(error).__name__}: {TRACED}")
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        return Cell(name, place.name, f"{type(error).__name__}: {first}")
    notes += _edge_notes(cell)
    return cell


def _cell(
    name: str,
    entrant: Baseline,
    place: Place,
    tuned_at: Place,
    plan: Plan,
    maker: Bench,
) -> Cell:
    """Returns what an optimizer does on a task; of the reference, under muP too.

    Where the width is not the base, rules know by muP what has grown, so the reference
    may: the better of both by the validation loss on the tuning seeds.
    """
    pairs, other = {name: entrant}, twin(entrant, place)
    if name == plan.reference and other and plan.tuning.protocol != "none":
        pairs[other] = BASELINES[other]
    cells = {
        key: _alone(name, entrant, place, tuned_at, plan, maker)
        for key, entrant in pairs.items()
    }
    best = name
    if len(cells) > 1:
        best = min(cells, key=lambda x: _valid(pairs[x], cells[x], place, plan, maker))
    if best != name:
        warnings.warn(f"{name} on {place.name} is {best}, the better.", stacklevel=1)
    return cells[best]


def twin(entrant: Baseline, place: Place) -> str | None:
    """Returns the name of what can be tuned under muP, where the width is not the base.

    None at the base width, for what has no such name, and for what is not tuned.
    """
    family = place.track.family
    at_base = jax.tree.leaves(family.shapes) == jax.tree.leaves(family.base_shapes)
    if at_base or not entrant.space:
        return None
    pairs = TWINS.items()
    return next((y for x, y in pairs if BASELINES[x].build is entrant.build), None)


def _valid(
    entrant: Baseline, cell: Cell, place: Place, plan: Plan, maker: Bench
) -> float:
    """Returns the validation loss, of what was tuned for it, on the tuning seeds."""
    found = maker.run(
        stand_at(entrant, place)[0],
        num_steps=place.num_steps,
        seeds=plan.tuning.seeds,
        hyperparameters=[cell.chosen["valid"].choice.hyperparameters],
    )
    return float(tuning.values(found, "valid").mean())


def _alone(
    name: str,
    entrant: Baseline,
    place: Place,
    tuned_at: Place,
    plan: Plan,
    maker: Bench,
) -> Cell:
    """Returns what an optimizer does on a task."""
    here, state_bytes = stand_at(entrant, place)
    if here.contender.copies:
        warnings.warn(
            f"{name} keeps parameters in its state, beside those that it updates. "
            "These are judged; if others are meant to be used, pass `eval_params`.",
            stacklevel=1,
        )
    there = here if tuned_at is place else stand_at(entrant, tuned_at)[0]
    tried, choices = tuned(there, tuned_at.num_steps, plan, maker)
    report = functools.partial(_reported, here, seeds=plan.seeds, maker=maker)
    found = report(choices, place.num_steps)
    aims = None
    if entrants.is_baseline(entrant):
        within = report(choices, place.num_steps * 3 // 4)
        valid = within.get("valid", within["default"]).valid[0]
        aims = np.where(np.isfinite(valid), valid, np.inf).min(-1)
    longer = {}
    for factor in plan.factors if name in plan.measures else ():
        if factor > 1:
            again = tuned(there, factor * tuned_at.num_steps, plan, maker)[1]
            at_length = report(again, factor * place.num_steps)
            longer[factor] = at_length.get("final", at_length["default"])
    return Cell(
        optimizer=name,
        task=place.name,
        chosen={key: Chosen(choices.get(key), x) for key, x in found.items()},
        # Trials of another task say nothing of times and losses on this one.
        tried=tried if there is here else None,
        aims=aims,
        longer=longer,
        cost=maker.cost(here, here.contender.defaults),
        state_bytes=state_bytes,
    )


def _reported(
    stand: Stand,
    choices: Mapping[str, tuning.Choice],
    num_steps: int,
    *,
    seeds: Sequence[int],
    maker: Bench,
) -> dict[str, Curves]:
    """Returns the curves of each choice, and of the defaults, on the reporting seeds.

    All are run, also where some are equal: one program then serves all lengths.
    """
    chosen = {key: x.hyperparameters for key, x in choices.items()}
    chosen["default"] = stand.contender.defaults
    found = maker.run(
        stand, num_steps=num_steps, seeds=seeds, hyperparameters=[*chosen.values()]
    )
    return {key: found.trial(i) for i, key in enumerate(chosen)}


def stand_at(entrant: Baseline, place: Place) -> tuple[Stand, float]:
    """Returns an optimizer at a place, and its bytes of state per parameter."""
    family = place.track.family
    contender = entrants.contender(entrant, family, num_steps=place.num_steps)
    facts = entrants.facts(contender, family, num_steps=place.num_steps)
    return bench.stand(contender, facts.program, place), facts.state_bytes


def tuned(
    stand: Stand, num_steps: int, plan: Plan, maker: Bench
) -> tuple[Tried | None, dict[str, tuning.Choice]]:
    """Returns the trials, and the choice for each metric."""
    baseline = stand.contender.baseline
    if baseline is None:
        return None, {}
    seen, parts = tuning.Seen([], {}), []
    while new := tuning.further(baseline, plan.tuning, seen):
        parts.append(
            maker.run(
                stand, num_steps=num_steps, seeds=plan.tuning.seeds, hyperparameters=new
            )
        )
        found = curves.joined(parts)
        values = {metric: tuning.values(found, metric) for metric in METRICS}
        scores = {metric: x.mean(-1) for metric, x in values.items()}
        seen = tuning.Seen(seen.hyperparameters + new, scores)
    if not parts:
        return None, {}
    tried = seen.hyperparameters
    choices = {
        metric: tuning.choose(x, tried, baseline.space) for metric, x in values.items()
    }
    return Tried(tried, values, found.valid), choices


def _edge_notes(cell: Cell) -> Iterator[str]:
    """Yields a warning for each choice at the edge of its range."""
    for metric, chosen in cell.chosen.items():
        for edge in chosen.choice.edges if chosen.choice else ():
            value = chosen.choice.hyperparameters[edge]
            yield (
                f"{cell.optimizer} on {cell.task}, tuned for {metric}: its best "
                f"{edge}={value:.3g} lies at the edge of the range; a wider one may "
                "be better."
            )


@contextlib.contextmanager
def _noting(notes: list[str]) -> Iterator[None]:
    """Adds the warnings of the block to `notes`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    notes += [str(x.message) for x in caught]
