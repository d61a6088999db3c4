"""One inner run: start it, take a window of steps, restart it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from evaluation import settings
from lopt import mup, schedules
from lopt.types import LearnedOptimizer
from tasks import base
from tasks.base import TaskFamily


class Worker(NamedTuple):
    """One inner run.

    Attributes:
      draw: names the task.
      params: inner parameters.
      carried: what the task carries, such as running statistics.
      opt_state: state of the rule, muP scaling and schedule.
      step: inner steps since the last restart; starts staggered.
      horizon: inner steps before the next restart.
    """

    draw: Any
    params: Any
    carried: Any
    opt_state: Any
    step: jax.Array
    horizon: jax.Array


class Inner(NamedTuple):
    """Inner training of ONE worker; estimators vmap it.

    Attributes:
      num_steps: W, inner steps per window.
      start: (theta, data, key) -> worker, at a random step of its horizon.
      window: (theta, worker, data, key) -> (worker, losses [W]); a worker that
        reaches its horizon inside the window restarts there.
      restart: (theta, worker, data, key, force) -> (worker, restarted).
      unroll: (theta, worker, data, key, num_steps) -> (worker, losses [num_steps]),
        past the horizon too.
      loss: (worker, data, key) -> (training loss, aux) on a batch drawn from key.
    """

    num_steps: int
    start: Callable[..., Worker]
    window: Callable[..., tuple[Worker, jax.Array]]
    restart: Callable[..., tuple[Worker, jax.Array]]
    unroll: Callable[..., tuple[Worker, jax.Array]]
    loss: Callable[..., tuple[jax.Array, dict]]


def inner(
    *,
    rule: LearnedOptimizer,
    family: TaskFamily,
    window: int,
    horizon: tuple[int, int],
    valid_weight: float,
    log_offset: float | None,
    schedule: dict[str, Any] | None,
    stagger: bool,
) -> Inner:
    """Returns inner training of `family` by `rule`.

    Losses are L_t: after update t, the normalised losses on the next batches of the
    splits `train` and `outer_valid`, or their logarithms, in a weighted mean.

    Args:
      rule: applied under muP, with widths relative to the family's base width.
      family: what to train on.
      window: inner steps per window, W >= 1.
      horizon: least and greatest inner steps before a restart, log-uniform between.
      valid_weight: in [0, 1]; that of the loss on the split `outer_valid` in the
        meta-loss, the rest being that of the loss on `train`. Without it rules learn
        to overfit.
      log_offset: c > 0 makes the meta-loss log(c + loss), so that a window late in a
        run, whose losses are small, weighs as much as an early one; None: the loss.
      schedule: `dict(name, peak)` of `lopt.schedules`, over the worker's horizon, for
        rules that leave their step size to one; or None.
      stagger: whether workers start at a random step, lest all restart together.

    Raises:
      ValueError: for a weight out of range, an empty window or horizon, or a schedule
        that is not known.
    """
    _check_ranges(window, horizon, valid_weight, log_offset)
    if schedule is not None:
        settings.call(schedules.build, "config.inner.schedule", schedule, num_steps=1)
    optimizer = _optimizer(rule, family, schedule)
    fresh = _fresh(family, optimizer, horizon)
    step = _step(family, optimizer, _meta_loss(valid_weight, log_offset))

    def start(theta: Any, data: Any, key: jax.Array) -> Worker:
        fresh_key, step_key = jax.random.split(key)
        worker = fresh(theta, data, fresh_key)
        if not stagger:
            return worker
        done = jax.random.randint(step_key, [], 0, worker.horizon, jnp.int32)
        return worker._replace(step=done)

    def restart(theta, worker, data, key, force):
        due = force | (worker.step >= worker.horizon)
        new = fresh(theta, data, key)
        return jax.tree.map(lambda a, b: jnp.where(due, a, b), new, worker), due

    def loss(worker: Worker, data: Any, key: jax.Array) -> tuple[jax.Array, dict]:
        task = family.task(worker.draw)
        return _loss(task, worker.params, worker.carried, data, key, "train")

    scan = _scan(step, restart)

    def run_window(theta, worker, data, key):
        return scan(theta, worker, data, key, num_steps=window, restarts=True)

    def unroll(theta, worker, data, key, num_steps):
        return scan(theta, worker, data, key, num_steps=num_steps, restarts=False)

    return Inner(window, start, run_window, restart, unroll, loss)


def _check_ranges(window, horizon, valid_weight, log_offset):
    if window < 1 or not 1 <= horizon[0] <= horizon[1]:
        raise ValueError(
            f"need window >= 1 and 1 <= low <= high, got {window=} and {horizon=}."
        )
    if not 0 <= valid_weight <= 1:
        raise ValueError(f"valid_weight must be in [0, 1], got {valid_weight=}.")
    if log_offset is not None and log_offset <= 0:
        raise ValueError(f"log_offset must be positive or None, got {log_offset=}.")


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


def _fresh(family, optimizer, horizon):
    """Returns (theta, data, key) -> a worker at its first step."""

    def fresh(theta: Any, data: Any, key: jax.Array) -> Worker:
        draw_key, init_key, horizon_key = jax.random.split(key, 3)
        draw = family.sample(draw_key)
        task = family.task(draw)
        params = task.init(init_key)
        length = _log_uniform(horizon_key, *horizon)
        opt_state = optimizer(theta, length).init(params)
        step = jnp.zeros([], jnp.int32)
        return Worker(draw, params, task.state, opt_state, step, length)

    return fresh


def _meta_loss(valid_weight, log_offset):
    """Returns (task, params, carried, data, key) -> the loss that theta is to lower."""
    weights = {"train": 1 - valid_weight, "outer_valid": valid_weight}

    def on_split(*args):
        task, *_ = args
        value = task.normalise(_loss(*args)[0])
        return value if log_offset is None else jnp.log(log_offset + value)

    def meta_loss(task, params, carried, data, key):
        return sum(
            weight * on_split(task, params, carried, data, key, split)
            for split, weight in weights.items()
            if weight
        )

    return meta_loss


def _step(family, optimizer, meta_loss):
    """Returns (theta, data, worker, keys) -> the worker one update on, and its L_t."""

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
        params = optax.apply_updates(worker.params, updates)
        worker = worker._replace(
            params=params, carried=carried, opt_state=opt_state, step=worker.step + 1
        )
        return worker, meta_loss(task, params, carried, data, next_key)

    return step


def _scan(step, restart):
    """Returns (theta, worker, data, key) -> (the worker steps on, its losses)."""

    def scan(theta, worker, data, key, *, num_steps, restarts):
        @jax.checkpoint
        def body(worker, keys):
            *batch_keys, restart_key = keys
            worker, value = step(theta, data, worker, batch_keys)
            if restarts:
                worker, _ = restart(theta, worker, data, restart_key, False)
            return worker, value

        batch_key, restart_key = jax.random.split(key)
        batch_keys = jax.random.split(batch_key, num_steps + 1)
        restart_keys = jax.random.split(restart_key, num_steps)
        keys = (batch_keys[:-1], batch_keys[1:], restart_keys)
        return jax.lax.scan(body, worker, keys)

    return scan


def _loss(task, params, carried, data, key, split):
    batch_key, loss_key = jax.random.split(key)
    batch = task.batch(data, batch_key, split)
    measure = base.loss if split == "train" else base.evaluate
    return measure(task, params, loss_key, batch, carried)


def _log_uniform(key: jax.Array, low: int, high: int) -> jax.Array:
    """Returns an integer of [low, high], uniform in its logarithm."""
    log = jax.random.uniform(key, minval=jnp.log(low), maxval=jnp.log(high + 1))
    return jnp.clip(jnp.floor(jnp.exp(log)), low, high).astype(jnp.int32)
