"""The loop: meta-steps, with looks at metrics, validation and saving between."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from common import command_line, disk, names
from common.machine import provenance
from meta_train import checkpoint, hosts
from meta_train.build import Run
from meta_train.logging import METRICS, VALIDATION, Bar, Journal, last_step, mean
from meta_train.sections import complete
from meta_train.validation import Scores
from meta_train.workdir import refuse_other

# One draw of tasks may fail every worker; so many in a row are theta's fault.
BARREN_LIMIT = 10


class Stopped(RuntimeError):
    """Meta-training cannot go on; the message names the last good checkpoint."""


@dataclasses.dataclass(kw_only=True)
class Progress:
    """Where a run is; every checkpoint holds all of it.

    Attributes:
      meta: the learner's state.
      best: theta of the best meta-validation score so far: an average of theta, or the
        mean of several; the last average where there is no validation.
      best_step: meta-step of the last average in `best`.
      best_score: its score, or None before the first validation.
      blended: averages that `best` is the mean of.
      step: meta-steps done.
      seconds: wall-clock spent, summed over resumed parts.
      barren: {family: its last draws in a row without a valid worker}.
      origin: `{"code_revision", "hardware"}` that the run began with.
    """

    meta: Any
    best: Any
    best_step: int = 0
    best_score: float | None = None
    blended: int = 1
    step: int = 0
    seconds: float = 0.0
    barren: dict[str, int] = dataclasses.field(default_factory=dict)
    origin: dict[str, Any] = dataclasses.field(default_factory=dict)


def loop(
    run: Run, workdir: Path, *, stop: Callable[[], bool] = lambda: False
) -> Progress:
    """Goes on from the newest checkpoint to the end, or until `stop()`.

    Killed at any moment and called again, it ends with the same bits as a run that
    was not: keys are folded from the seed and the meta-step, and all state is saved.

    Args:
      run: from `build.build`.
      workdir: where its checkpoints and journals are, or will be.
      stop: asked before every meta-step; once true, what there is is saved.

    Returns:
      Where the run is; `step < run.outer.num_steps` when it was stopped.

    Raises:
      Stopped: when theta is not finite, `BARREN_LIMIT` meta-steps in a row of one
        family had no valid worker, or the disk is full. Nothing is saved then.
      OtherConfig: when the checkpoints are of a run of another config.
    """
    workdir = Path(workdir)
    with contextlib.ExitStack() as stack:
        progress, tools = _opened(run, workdir, stack)
        try:
            _run(progress, tools, stop)
        except disk.DiskFull as error:
            room = "the same command goes on once there is room"
            raise Stopped(f"{_reason(str(error), tools)[:-1]}; {room}.") from error
    return progress


@dataclasses.dataclass(frozen=True)
class Tools:
    """What the loop works with: the run, its journals, and what was compiled."""

    run: Run
    keeper: Any
    metrics: Journal
    validation: Journal
    bar: Bar
    compiled: list[str] = dataclasses.field(default_factory=list)


def _opened(
    run: Run, workdir: Path, stack: contextlib.ExitStack
) -> tuple[Progress, Tools]:
    """Returns where the run is, and what `stack` closes."""
    path = workdir / "checkpoints"
    keeper = checkpoint.manager(path, keep=run.saving.keep)
    stack.callback(keeper.close)
    with command_line.Pulse() as pulse:
        pulse.begin("compiling and making the first state", aloud=False)
        progress = _start(run, keeper)
    bar = stack.enter_context(Bar(total=run.outer.num_steps, step=progress.step))
    before = last_step(workdir / METRICS)
    if progress.step:
        bar.say(f"resumed at meta-step {progress.step} from {path}")
    elif before:
        bar.say(
            f"warning: {workdir / METRICS} goes to meta-step {before}, but there is no "
            f"checkpoint in {path}: the run begins again, and replaces what is there"
        )
    first = hosts.first()
    sink = names.find("sink", run.log.sink, {}) if run.log.sink and first else None
    journals = [
        Journal(
            workdir / file if first else None,
            step=progress.step,
            tensorboard=run.log.tensorboard and first,
            families=list(run.families),
            sink=sink and sink(workdir, file.removesuffix(".jsonl"), run.config),
        )
        for file in (METRICS, VALIDATION)
    ]
    for journal in journals:
        stack.callback(journal.close)
    return progress, Tools(run, keeper, *journals, bar)


def _run(progress: Progress, tools: Tools, stop: Callable[[], bool]) -> None:
    """Takes meta-steps until the last, or until `stop()`, and saves."""
    if tools.run.validation.every and not progress.step:
        with _timed(progress):
            _validate(progress, tools)
    compiled = False
    while progress.step < tools.run.outer.num_steps and not stop():
        if not compiled:
            _compile(progress, tools)
            compiled = True
        _advance(progress, tools)
    _look(progress, tools)
    _save(progress, tools)


def _start(run: Run, keeper: Any) -> Progress:
    meta = run.learner.init(run.data)
    # The learner donates its state, so what is kept beside it must be a copy.
    best = jax.tree.map(jnp.copy, meta.average)
    progress = Progress(meta=meta, best=best, origin=provenance())
    found = checkpoint.restore(keeper, {"meta": meta, "best": progress.best})
    if found is None:
        return progress
    notes = dict(found.notes)
    there = complete(notes.pop("config"))
    refuse_other(there, complete(run.config), where=f"checkpoint {found.step}")
    return Progress(**found.state, **notes)


def _compile(progress: Progress, tools: Tools) -> None:
    """Compiles what is to come, before the first of it waits for it in silence."""
    with _timed(progress):
        tools.run.learner.compile(tools.run.data, say=tools.bar.begin)


def _advance(progress: Progress, tools: Tools) -> None:
    """Takes one meta-step and does what is due after it."""
    run = tools.run
    tools.bar.begin(f"meta-step {progress.step + 1}", aloud=False)

    def due(every: int) -> bool:
        last = progress.step == run.outer.num_steps
        return bool(every) and (last or progress.step % every == 0)

    with _timed(progress):
        progress.meta, metrics = run.learner.step(
            progress.meta, run.data, progress.step
        )
        progress.step += 1
        tools.metrics.add(progress.step, metrics)
        validating, saving = due(run.validation.every), due(run.saving.every)
        if due(run.log.every) or validating or saving:
            _look(progress, tools)
        if validating:
            _validate(progress, tools)
    if saving:
        _save(progress, tools)


@contextlib.contextmanager
def _timed(progress: Progress) -> Iterator[None]:
    """Adds the seconds of the block."""
    began = time.monotonic()
    yield
    progress.seconds += time.monotonic() - began


def _look(progress: Progress, tools: Tools) -> None:
    """Writes metrics and stops a run that has failed."""
    rows = tools.metrics.write()
    for row in rows:
        name = list(tools.run.families)[int(row.get("family", 0))]
        barren = 0 if row["valid"] else progress.barren.get(name, 0) + 1
        progress.barren[name] = barren
        if not row["finite"]:
            raise Stopped(
                _reason(f"theta is not finite at meta-step {row['step']}", tools)
            )
        if barren >= BARREN_LIMIT:
            what = f"every worker of {name} diverged, {BARREN_LIMIT} times in a row, at"
            raise Stopped(_reason(f"{what} meta-step {row['step']}", tools))
    if rows:
        valid = [row for row in rows if row["valid"]]
        tools.bar.show(progress.step, loss=mean(valid, "loss"))


def _reason(what: str, tools: Tools) -> str:
    last = checkpoint.newest(tools.keeper)
    good = f"the last good checkpoint is {last}" if last else "there is no checkpoint"
    return f"Meta-training stopped: {what}; {good}."


def _validate(progress: Progress, tools: Tools) -> None:
    """Keeps the average of theta if it is better; or, if asked, its mean with the best.

    Means of weights along a run are often better than each (arXiv:2203.05482).
    """
    average, count = progress.meta.average, progress.blended
    _begin_validation(average, tools)
    scores = tools.run.scores(average)
    score = _mean(scores)
    tools.validation.add(progress.step, scores)
    tools.validation.write()
    tools.bar.say(f"meta-step {progress.step}: meta-validation {score:.4f}")
    bad = [name for name, x in scores.items() if not jnp.isfinite(x)]
    if bad:
        tools.bar.say(f"meta-step {progress.step}: diverged on {', '.join(bad)}")
    found = [(score, 1, average)]
    best = progress.best_score
    if tools.run.validation.blend and best is not None and math.isfinite(best):
        blend = jax.tree.map(
            lambda a, b: a + (b - a) / (count + 1), progress.best, average
        )
        found.append((_mean(tools.run.scores(blend)), count + 1, blend))
    score, count, theta = min(found, key=lambda candidate: candidate[0])
    # Where none is finite yet, the last is the best there is.
    if best is None or score < best or not math.isfinite(best):
        progress.best = jax.tree.map(jnp.copy, theta)
        progress.best_step, progress.best_score = progress.step, score
        progress.blended = count


def _begin_validation(average: Any, tools: Tools) -> None:
    """Says what is done; the first time it is compiled."""
    what, scores = "meta-validation", tools.run.scores
    if what not in tools.compiled and isinstance(scores, Scores):
        tools.compiled.append(what)
        scores.compile(average, say=tools.bar.begin)
    tools.bar.begin(what, aloud=False)


def _mean(scores: dict[str, jax.Array]) -> float:
    return float(jnp.mean(jnp.stack([*scores.values()])))


def _save(progress: Progress, tools: Tools) -> None:
    """Saves where the run is."""
    if not tools.run.validation.every:
        progress.best = jax.tree.map(jnp.copy, progress.meta.average)
        progress.best_step = progress.step
    arrays = ("meta", "best")
    notes = {
        field.name: getattr(progress, field.name)
        for field in dataclasses.fields(progress)
        if field.name not in arrays
    }
    notes["config"] = tools.run.config
    state = {name: getattr(progress, name) for name in arrays}
    checkpoint.save(tools.keeper, progress.step, state=state, notes=notes)
