"""One inner run: start it, take a window of steps, restart it."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from common import settings
from lopt import checks, mup, schedules
from lopt.types import LearnedOptimizer
from meta_train.inner.imitation import Imitation, Unlikeness, unlikeness
from meta_train.inner.worker import (
    Losses,
    Worker,
    run_of,
    segments,
    unroll_of,
    where,
    window_of,
)
from tasks import base
from tasks.base import TaskFamily


class Inner(NamedTuple):
    """Inner training of ONE worker; estimators vmap it.

    `salt`, if not None, changes the batches that a key draws, and nothing else.

    Attributes:
      num_steps: W, the most inner steps of a window.
      longest: inner steps that `run` takes, whatever the horizon; it masks the rest.
      shares: weight of each split's loss in the meta-loss, where it is not 0.
      fresh_share: probability that a run that ends is followed by a fresh one.
      imitation: settings of it, or None.
      fresh: (theta, data, key, windows) -> worker at its first step.
      start: (theta, data, key) -> worker, at a random step of its horizon.
      window: (theta, worker, data, key, later=theta, salt=None) -> (worker, Losses);
        a worker that reaches its horizon inside the window restarts there, and goes
        on with `later` for its theta.
      run: (theta, worker, data, key, salt=None) -> (worker, Losses) from here to the
        horizon, rematerialised so that memory grows as the root of its length. Means
        of `objective` and `unlikeness` are those over the steps of the run.
      restart: (theta, worker, data, key, force) -> (worker, restarted).
      unroll: (theta, worker, data, key, num_steps, salt=None) -> (worker, Losses
        [num_steps]), past the horizon too.
      loss: (worker, data, key, split="train") -> (loss, aux) on a batch drawn from key.
      meta_loss: (worker, data, key) -> the meta-loss, on batches drawn from key.
      penalty: (theta, params) -> what the rule adds to the training loss, or None.
    """

    num_steps: int
    longest: int
    shares: Mapping[str, float]
    fresh_share: float
    imitation: Imitation | None
    fresh: Callable[..., Worker]
    start: Callable[..., Worker]
    window: Callable[..., tuple[Worker, Losses]]
    run: Callable[..., tuple[Worker, Losses]]
    restart: Callable[..., tuple[Worker, jax.Array]]
    unroll: Callable[..., tuple[Worker, Losses]]
    loss: Callable[..., tuple[jax.Array, dict]]
    meta_loss: Callable[..., jax.Array]
    penalty: Callable[..., jax.Array] | None


REDUCTIONS = {
    "mean": lambda value, worker, best: value,
    "late": lambda value, worker, best: (
        3 * jnp.square(worker.step / worker.horizon) * value
    ),
    "last": lambda value, worker, best: jnp.where(
        worker.step == worker.horizon, worker.horizon * value, 0
    ),
    # Differences that telescope, so that a run may be cut into windows.
    "min": lambda value, worker, best: (
        worker.horizon * jnp.where(jnp.isinf(best), value, jnp.minimum(value - best, 0))
    ),
}


def inner(
    *,
    rule: LearnedOptimizer,
    family: TaskFamily,
    window: int | tuple[int, ...],
    horizon: tuple[int, ...],
    growth: int,
    reduce: str,
    valid_weight: float,
    log_offset: float | None,
    schedule: dict[str, Any] | None,
    stagger: bool,
    fresh: float,
    imitation: Mapping[str, Any] | None,
) -> Inner:
    """Returns inner training of `family` by `rule`.

    Losses are L_t: after update t, the normalised losses on the next batches of the
    splits `train` and `outer_valid`, or their logarithms, in a weighted mean.

    Args:
      rule: applied under muP, with widths relative to the family's base width.
      family: what to train on.
      window: inner steps per window, W >= 1; or the least and the most, of which each
        run draws one, log-uniform. Every window costs as much as the longest.
      horizon: least and most inner steps before a restart, log-uniform between. If
        they differ, estimates of windows weigh a run by its length, as its share of all
        steps, and those of whole runs weigh each alike.
      growth: windows of a worker over which the most grows, geometrically, from the
        least to its value; 0: it is there from the start.
      reduce: what theta is to lower of the losses of a run: their "mean"; "late", the
        mean weighed by the square of the share of the run that is done; the "last"; or
        the "min".
      valid_weight: in [0, 1]; that of the loss on the split `outer_valid` in the
        meta-loss, the rest being that of the loss on `train`. Without it rules learn
        to overfit.
      log_offset: c > 0 makes the meta-loss log(c + loss), so that a window late in a
        run, whose losses are small, weighs as much as an early one; None: the loss.
      schedule: `dict(name, peak)` of `lopt.schedules`, over the worker's horizon, for
        rules that leave their step size to one; or None.
      stagger: whether workers start at a random step, lest all restart together.
      fresh: probability in (0, 1] that a run that ends is followed by a fresh one, and
        not by going on from an earlier state (`estimators.buffer`); 1: there is no
        buffer. Below it runs may become longer than `horizon`.
      imitation: settings of `Imitation`, or None.

    Raises:
      ValueError: for a weight or probability out of range, an empty window or horizon,
        a buffer that cannot be, a schedule, reduction or expert that is not known, or
        bad settings of imitation.
    """
    window = _pair("window", (window, window) if isinstance(window, int) else window)
    horizon = _pair("horizon", horizon)
    _check_ranges(window, horizon, growth, valid_weight, log_offset)
    base.known("reduce", reduce, REDUCTIONS)
    _check_buffer(fresh, window, horizon, reduce)
    if schedule is not None:
        settings.call(schedules.build, "config.inner.schedule", schedule, num_steps=1)
        checks.check_rate("config.inner.schedule.peak", schedule["peak"])
    if imitation is not None:
        imitation = settings.call(Imitation, "config.inner.imitation", imitation)
    optimizer = _optimizer(rule, family, schedule)
    begin = _fresh(family, optimizer, window, horizon, growth, imitation)
    weights = {"train": 1 - valid_weight, "outer_valid": valid_weight}
    shares = {split: weight for split, weight in weights.items() if weight}
    meta_loss = _meta_loss(shares, log_offset)
    step = _step(family, optimizer, meta_loss, REDUCTIONS[reduce], imitation)

    def start(theta: Any, data: Any, key: jax.Array) -> Worker:
        fresh_key, step_key = jax.random.split(key)
        worker = begin(theta, data, fresh_key, jnp.zeros([], jnp.int32))
        if not stagger:
            return worker
        done = jax.random.randint(step_key, [], 0, worker.horizon, jnp.int32)
        return worker._replace(step=done)

    def restart(theta, worker, data, key, force):
        due = force | (worker.step >= worker.horizon)
        return where(due, begin(theta, data, key, worker.windows), worker), due

    def loss(worker: Worker, data: Any, key: jax.Array, split: str = "train"):
        task = family.task(worker.draw)
        return _loss(task, worker.params, worker.carried, data, key, split)

    def meta_loss_of(worker: Worker, data: Any, key: jax.Array) -> jax.Array:
        task = family.task(worker.draw)
        return meta_loss(task, worker.params, worker.carried, data, key)

    return Inner(
        num_steps=window[1],
        longest=math.prod(segments(horizon[1])),
        shares=shares,
        fresh_share=fresh,
        imitation=imitation,
        fresh=begin,
        start=start,
        window=window_of(step, restart, window),
        run=run_of(step, horizon[1]),
        restart=restart,
        unroll=unroll_of(step),
        loss=loss,
        meta_loss=meta_loss_of,
        penalty=rule.penalty,
    )


def _pair(name: str, value: Any) -> tuple[int, int]:
    """Returns a range as it is."""
    whole = isinstance(value, Sequence) and all(isinstance(x, int) for x in value)
    if not whole or len(value) != 2:
        raise ValueError(
            f"{name} must be two integers, such as (100, 200), got {value}."
        )
    return value


def _check_ranges(window, horizon, growth, valid_weight, log_offset):
    if not 1 <= window[0] <= window[1] or not 1 <= horizon[0] <= horizon[1]:
        raise ValueError(
            "need window >= 1, or 1 <= low <= high of it, and 1 <= low <= high of "
            f"horizon, got {window=} and {horizon=}."
        )
    if not growth >= 0:
        raise ValueError(f"growth must be at least 0, got {growth=}.")
    if not 0 <= valid_weight <= 1:
        raise ValueError(f"valid_weight must be in [0, 1], got {valid_weight=}.")
    if log_offset is not None and not log_offset > 0:
        raise ValueError(f"log_offset must be positive or None, got {log_offset=}.")


def _check_buffer(fresh, window, horizon, reduce):
    if not 0 < fresh <= 1:
        raise ValueError(f"fresh must be in (0, 1], got {fresh=}; try 0.2 or 1.0.")
    if fresh < 1 and horizon[0] < window[1]:
        raise ValueError(
            "a buffer of runs needs horizons of at least a window, got "
            f"{fresh=}, {horizon=} and {window=}; try fresh=1.0."
        )
    if fresh < 1 and reduce == "min":
        raise ValueError(  # differences that would no longer telescope
            "runs that go on have two horizons, which reduce='min' cannot weigh, got "
            f"{fresh=}; try reduce='mean' or fresh=1.0."
        )


def _optimizer(rule, family, schedule):
    """Returns (theta, num_steps) -> what trains a worker."""
    scaling = mup.scale_updates(mup.infer(family.shapes, family.base_shapes))

    def optimizer(theta: Any, num_steps: Any) -> optax.GradientTransformationExtraArgs:
        stages = [rule.bind(theta, num_steps=num_steps), scaling]
        if schedule is not None:
            decay = schedules.build(**schedule, num_steps=num_steps)
            stages.append(optax.scale_by_schedule(decay))
        return optax.chain(*stages)

    return optimizer


def _fresh(family, optimizer, window, horizon, growth, imitation):
    """Returns (theta, data, key, windows) -> a worker at its first step."""
    least, most = horizon

    def bound(windows):
        if not growth:
            return most
        grown = least * (most / least) ** jnp.minimum(1.0, windows / growth)
        return jnp.where(windows < growth, grown, most)  # else rounded below it

    def fresh(theta: Any, data: Any, key: jax.Array, windows: jax.Array) -> Worker:
        draw_key, init_key, horizon_key = jax.random.split(key, 3)
        draw = family.sample(draw_key)
        task = family.task(draw)
        params = task.init(init_key)
        length = _log_uniform(horizon_key, least, bound(windows))
        return Worker(
            draw=draw,
            params=params,
            carried=task.state,
            opt_state=optimizer(theta, length).init(params),
            expert=() if imitation is None else imitation.optimizer().init(params),
            step=jnp.zeros([], jnp.int32),
            horizon=length,
            window=_log_uniform(jax.random.fold_in(horizon_key, 1), *window),
            windows=windows,
            best=jnp.full([], jnp.inf, float),
        )

    return fresh


def _meta_loss(shares, log_offset):
    """Returns (task, params, carried, data, key) -> the loss that theta is to lower."""

    def on_split(*args):
        task, *_ = args
        value = task.normalise(_loss(*args)[0])
        return value if log_offset is None else jnp.log(log_offset + value)

    def meta_loss(task, params, carried, data, key):
        return sum(
            weight * on_split(task, params, carried, data, key, split)
            for split, weight in shares.items()
        )

    return meta_loss


def _step(family, optimizer, meta_loss, reduction, imitation):
    """Returns (theta, data, worker, keys) -> the worker one update on, and losses.

    Losses are the first three fields of `Losses`.
    """

    def step(theta, data, worker, keys):
        key, next_key = keys
        task = family.task(worker.draw)
        batch_key, loss_key = jax.random.split(key)
        batch = task.batch(data, batch_key, "train")
        _, carried, grads = base.gradient(
            task, worker.params, loss_key, batch, worker.carried
        )
        tx = optimizer(theta, worker.horizon)
        updates, opt_state = tx.update(grads, worker.opt_state, worker.params)
        unlike, expert = (), ()
        if imitation is not None:
            updates, unlike, expert = _led(imitation, worker, updates, grads)
        params = optax.apply_updates(worker.params, updates)
        value = meta_loss(task, params, carried, data, next_key)
        after = worker._replace(
            params=params,
            carried=carried,
            opt_state=opt_state,
            expert=expert,
            step=worker.step + 1,
            best=jnp.minimum(worker.best, value),
        )
        objective = reduction(value, after, worker.best)
        if imitation is not None:
            unlike = Unlikeness(objective, *unlike)
            objective = imitation.objective(unlike, worker.windows)
        return after, (value, objective, unlike)

    return step


def _led(imitation, worker, updates, grads):
    """Returns the update that is taken, l_dir and l_mag, and the expert's state."""
    tx = imitation.optimizer()
    theirs, state = tx.update(grads, worker.expert, worker.params)
    mixed = imitation.mixed(updates, theirs, worker.windows)
    return mixed, unlikeness(updates, theirs), state


def _loss(task, params, carried, data, key, split):
    batch_key, loss_key = jax.random.split(key)
    batch = task.batch(data, batch_key, split)
    measure = base.loss if split == "train" else base.evaluate
    return measure(task, params, loss_key, batch, carried)


def _log_uniform(key: jax.Array, low: int, high: Any) -> jax.Array:
    """Returns an integer of [low, high], uniform in its logarithm."""
    log = jax.random.uniform(key, minval=jnp.log(low), maxval=jnp.log(high + 1))
    return jnp.clip(jnp.floor(jnp.exp(log)), low, high).astype(jnp.int32)
