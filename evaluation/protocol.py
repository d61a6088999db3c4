"""The protocol: every optimizer on every task of a suite, tuned on other seeds."""

import contextlib
import datetime
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from common import checks, command_line, machine
from common.names import known
from evaluation.runs import adapters, bench, cells, entrants, tuning
from evaluation.runs.bench import Bench, Place, Say
from evaluation.runs.cells import Plan
from evaluation.runs.entrants import Entrant
from evaluation.runs.results import Cell, Results
from evaluation.runs.store import opened
from evaluation.runs.tuning import Tuning, sequential
from lopt.baselines import BASELINES, Baseline
from tasks import suites
from tasks.base import TaskFamily
from tasks.costs import batch_size

LOOKS = 20
COMPILING = 2e10  # operations in whose time a cell is about compiled
DEFAULT = Tuning("narrow", 40, tuple(range(30_000, 30_005)))
Suite = str | Mapping[str, suites.Entry | tuple[TaskFamily, int]]


def evaluate(
    optimizers: Entrant | str | Mapping[str, Entrant | str],
    suite: Suite,
    seeds: Sequence[int],
    *,
    tuning: Tuning = DEFAULT,
    reference: str | None = "adam",
    reference_lengths: Sequence[int] = (1, 2),
    eval_params: adapters.EvalParams | Mapping[str, adapters.EvalParams] | None = None,
    looks: int = LOOKS,
    slow_tasks: bool = False,
    directory: str | Path | None = None,
    say: Say = print,
) -> Results:
    """Returns how optimizers do on the tasks of a suite.

    What has hyperparameters is tuned on every task by itself, on seeds that are not
    reported, and for each of `METRICS` by itself, so that nobody can say that it was
    tuned for another. Runs of equal seeds start alike and see the same batches. An
    optimizer that fails on a task loses that cell alone.

    Args:
      optimizers: by name; each any Optax transformation, a function
        `num_steps=... -> transformation`, a `Baseline`, tuned over its space, or a
        name for `entrants.find`. One by itself is "yours".
      suite: a name in `SUITES`, `module:attribute` of a dict of entries, or such a
        dict: {task: entry, or a family and its number of steps}.
      seeds: to report; each draws the task, its start and its batches.
      tuning: how baselines are tuned.
      reference: the optimizer that others are measured against, which joins them if it
        is a baseline or `module:attribute`; None for no one.
      reference_lengths: factors. The reference is tuned and run for each factor times
        the steps of a task, so that speed-ups up to the greatest factor can be
        measured.
      eval_params: (state, params) -> the parameters to judge, of all optimizers or by
        name; for an optimizer that averages in a way that `adapters` does not know. By
        default the parameters that are updated are judged.
      looks: how often held-out losses are taken after the start; a multiple of 4.
      slow_tasks: whether tasks for an accelerator are run where there is none; by
        default they are left out there, and a note says so.
      directory: where runs are kept, in `trials.sqlite`, so that none is repeated; by
        default a temporary one, which is named and stays.
      say: takes lines of progress.

    Raises:
      ValueError: for settings that do not fit; before anything is compiled.
    """
    named = entrants.by_name(optimizers, eval_params)
    if reference not in named and (reference in BASELINES or ":" in str(reference)):
        named |= entrants.find([reference])
    if reference is not None and tuning.protocol != "none":
        named = named | {entrants.CONSTANT: entrants.CONSTANT_RATES}
    plan = _plan(tuning, seeds, reference, reference_lengths)
    transfer = plan.tuning.transfer
    (looks,) = checks.wholes("looks", [looks], least=1)
    entries, notes = _entries(suite, transfer=transfer, slow_tasks=slow_tasks)
    for note in notes:
        say(note)
    with command_line.Pulse(say) as pulse:
        pulse.begin("reading data", aloud=False)
        tasks = _tasks(entries)
    _check(named, {name: setting[1] for name, setting in tasks.items()}, plan, looks)
    growth = suites.growth(suite) if isinstance(suite, str) else {}
    bases = {task: x.base for task, x in growth.items()} if transfer else {}
    if directory is None:
        directory = tempfile.mkdtemp(prefix="lopt-evaluation-")
        say(f"runs are kept in {directory}; directory={directory!r} goes on there")
    with opened(Path(directory)) as store, _watch() as seconds, pulse:
        pulse.begin(f"tracing {len(tasks)} tasks", aloud=False)
        places = {
            name: bench.place(name, family, num_steps=num_steps, looks=looks)
            for name, (family, num_steps) in tasks.items()
        }
        found = tuple(_cells(named, places, bases, plan, Bench(store), notes, pulse))
    return Results(
        settings=_settings(suite, places, growth, named, plan, looks),
        cells=found,
        seconds=seconds,
        notes=tuple(dict.fromkeys(notes)),
        environment=machine.machine(),
        made={
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "command": "evaluate(...) from Python",
            "revision": machine.revision(),
        },
    )


def _settings(
    suite: Suite,
    places: Mapping[str, Place],
    growth: Mapping[str, suites.Growth],
    named: Mapping[str, Baseline],
    plan: Plan,
    looks: int,
) -> dict[str, Any]:
    """Returns the settings of `Results`, as JSON values."""
    tuning, reference = plan.tuning, plan.reference
    return {
        "suite": suite if isinstance(suite, str) else "of your own",
        "tasks": {
            name: _said(x, growth.get(name), named.get(reference))
            for name, x in places.items()
        },
        "optimizers": {
            name: {
                "baseline": entrants.is_baseline(x),
                "trials": _trials(x, plan),
                "sequential": sequential(x, tuning),
            }
            for name, x in named.items()
        },
        "seeds": list(plan.seeds),
        "tuning": tuning._asdict() | {"seeds": list(tuning.seeds)},
        "reference": reference,
        "reference_lengths": list(plan.factors),
        "looks": looks,
    }


def _plan(
    tuning: Tuning, seeds: Sequence[int], reference: str | None, lengths: Sequence[int]
) -> Plan:
    """Returns the plan, its numbers as Python's own."""
    wholes = checks.wholes
    tuning = tuning._replace(seeds=wholes("tuning.seeds", tuning.seeds, least=0))
    seeds = wholes("seeds", seeds, least=0)
    lengths = wholes("reference_lengths", lengths, least=1)
    return Plan(tuning, seeds, reference, lengths)


def _entries(
    suite: Suite, *, transfer: bool, slow_tasks: bool
) -> tuple[dict[str, Any], list[str]]:
    """Returns the entries of tasks to run, and a note for each task left out.

    Raises:
      ValueError: if all would be left out.
    """
    if isinstance(suite, str):
        suite = suites.with_bases(suite) if transfer else suites.find(suite)
    fast = suites.on_cpu(suite)
    if slow_tasks or machine.accelerated() or len(fast) == len(suite):
        return dict(suite), []
    slow = [name for name in suite if name not in fast]
    if not fast:
        raise ValueError(
            f"tasks are for an accelerator, and there is none: {', '.join(slow)}; "
            "slow_tasks=True runs them all the same."
        )
    return fast, [
        f"{name} is for an accelerator and was left out, as there is none; "
        "slow_tasks=True runs it all the same."
        for name in slow
    ]


def _tasks(entries: Mapping[str, Any]) -> dict[str, tuple[TaskFamily, int]]:
    """Returns the family and the number of steps of each task."""
    return {
        name: (suites.family(entry), entry.num_steps)
        if isinstance(entry, suites.Entry)
        else tuple(entry)
        for name, entry in entries.items()
    }


def _check(
    named: Mapping[str, Baseline],
    lengths: Mapping[str, int],
    plan: Plan,
    looks: int,
) -> None:
    """Raises ValueError for what does not fit together."""
    tuning.check(plan.tuning, plan.seeds)
    if plan.reference is not None and plan.reference not in named:
        known("reference", plan.reference, {*named, *BASELINES})
    if looks < 4 or looks % 4:
        raise ValueError(f"looks must be a multiple of 4, got {looks=}.")
    for entrant in named.values():
        _trials(entrant, plan)  # raises where the budget is too small
    if not plan.factors:
        raise ValueError("reference_lengths must be whole numbers from 1, got none.")
    for name, num_steps in lengths.items():
        checks.wholes(f"num_steps of {name}", [num_steps], least=1)
        if num_steps % looks:
            raise ValueError(
                f"the {num_steps} steps of {name} are no multiple of {looks=}."
            )


def _cells(
    named: Mapping[str, Baseline],
    places: Mapping[str, Place],
    bases: Mapping[str, str],
    plan: Plan,
    maker: Bench,
    notes: list[str],
    pulse: command_line.Pulse,
) -> Iterator[Cell]:
    """Yields the cell of every optimizer on every task, by task."""
    pairs = [(name, task) for task in places for name in named]
    works = [_work(named[name], name, places[task], plan) for name, task in pairs]
    progress = bench.Progress(works, pulse.say)
    for name, task in pairs:
        began, made = time.monotonic(), maker.made
        pulse.begin(progress.begin(f"{task}, {name}"))
        place = places[task]
        tuned_at = places[bases[task]] if task in bases else place
        cell = cells.guarded(name, named[name], place, tuned_at, plan, maker, notes)
        failed = f" failed ({cell.error})" if cell.error else ""
        seconds = time.monotonic() - began
        progress.cell(f"{task}, {name}{failed}", seconds, fresh=maker.made > made)
        yield cell


def _work(entrant: Baseline, name: str, place: Place, plan: Plan) -> float:
    """Returns about how much a cell has to compute."""
    trials = _trials(entrant, plan)
    lengths = sum(plan.factors) if name in plan.measures else 1
    reported = (4 if trials else 1) * len(plan.seeds) * (lengths + 0.75)
    runs = trials * len(plan.tuning.seeds) * lengths + reported
    twice = 1 + bool(trials and name == plan.reference and cells.twin(entrant, place))
    return twice * (COMPILING + runs * place.num_steps * place.flops)


def _trials(entrant: Baseline, plan: Plan) -> int:
    """Returns how many trials an optimizer is tuned over."""
    return tuning.budget(entrant, plan.tuning)


def _said(place: Place, growth: Any, reference: Baseline | None) -> dict[str, Any]:
    """Returns what a report says of a task."""
    family = place.track.family
    return {
        "family": family.name,
        "num_steps": place.num_steps,
        "params": place.params,
        "batch": batch_size(family)._asdict(),
        "flops": place.flops,
        "program": place.program,
        "growth": growth and growth._asdict(),
        "twin": reference and cells.twin(reference, place),
    }


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
