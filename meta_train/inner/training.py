"""Inner training: what one worker does, from its first step to its horizon."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lopt import mup, schedules
from lopt.types import LearnedOptimizer
from meta_train.inner import unroll
from meta_train.inner.imitation import Imitation, Unlikeness, unlikeness
from meta_train.inner.worker import Losses, Worker, where
from tasks import base
from tasks.base import Task, TaskFamily

# name -> (meta-loss, worker after the step, least meta-loss before it) -> objective
REDUCTIONS: dict[str, Callable[..., jax.Array]] = {
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    """Inner training of ONE worker; estimators vmap its methods.

    `step` takes one update and then the meta-loss (`meta_loss`) of the parameters after
    it. `window`, `run` and `unroll` take many.

    In all methods `salt`, if not None, changes the batches that a key draws, and
    nothing else.

    Attributes:
      rule: what trains, under muP, relative to the family's base width.
      family: what is trained.
      windows: the least and the most inner steps of a window.
      horizon: least and most inner steps before a restart.
      growth: windows during which the greatest horizon grows from the least.
      reduce: name in `REDUCTIONS`.
      shares: weight of each split's loss in the meta-loss, where it is not 0.
      log_offset: c of log(c + loss), or None.
      schedule: settings of `schedules.build` but for the number of steps, or None.
      stagger: whether `start` is at a random step.
      fresh_share: probability that a run that ends is followed by a fresh one.
      imitation: settings of an expert that leads, or None.
    """

    rule: LearnedOptimizer
    family: TaskFamily
    windows: tuple[int, int]
    horizon: tuple[int, int]
    growth: int
    reduce: str
    shares: Mapping[str, float]
    log_offset: float | None
    schedule: Mapping[str, Any] | None
    stagger: bool
    fresh_share: float
    imitation: Imitation | None

    @property
    def num_steps(self) -> int:
        """Returns W, the most inner steps of a window."""
        return self.windows[1]

    @property
    def longest(self) -> int:
        """Returns the inner steps that `run` computes, whatever the horizon."""
        return math.prod(unroll.segments(self.horizon[1]))

    @property
    def penalty(self) -> Callable[..., jax.Array] | None:
        """Returns (theta, params) -> what the rule adds to the training loss."""
        return self.rule.penalty

    def optimizer(
        self, theta: Any, num_steps: Any
    ) -> optax.GradientTransformationExtraArgs:
        """Returns what trains a run of so many steps: rule, muP scaling, schedule."""
        stages = [self.rule.bind(theta, num_steps=num_steps), self._mup]
        if self.schedule is not None:
            rate = schedules.build(**self.schedule, num_steps=num_steps)
            stages.append(optax.scale_by_schedule(rate))
        return optax.chain(*stages)

    def fresh(
        self, theta: Any, data: Any, key: jax.Array, windows: jax.Array
    ) -> Worker:
        """Returns a worker at the first step of a run, after so many windows."""
        draw_key, init_key, horizon_key = jax.random.split(key, 3)
        draw = self.family.sample(draw_key)
        task = self.family.task(draw)
        params = task.init(init_key)
        length = _log_uniform(horizon_key, self.horizon[0], self._most(windows))
        expert = self.imitation.optimizer().init(params) if self.imitation else ()
        return Worker(
            draw=draw,
            params=params,
            carried=task.state,
            opt_state=self.optimizer(theta, length).init(params),
            expert=expert,
            step=jnp.zeros([], jnp.int32),
            horizon=length,
            window=_log_uniform(jax.random.fold_in(horizon_key, 1), *self.windows),
            windows=windows,
            best=jnp.full([], jnp.inf, float),
        )

    def start(self, theta: Any, data: Any, key: jax.Array) -> Worker:
        """Returns a worker at a random step of its horizon, or at its first."""
        fresh_key, step_key = jax.random.split(key)
        worker = self.fresh(theta, data, fresh_key, jnp.zeros([], jnp.int32))
        if not self.stagger:
            return worker
        done = jax.random.randint(step_key, [], 0, worker.horizon, jnp.int32)
        return worker._replace(step=done)

    def restart(
        self, theta: Any, worker: Worker, data: Any, key: jax.Array, force: Any
    ) -> tuple[Worker, jax.Array]:
        """Returns a fresh worker where the run has ended or must, and whether so."""
        due = force | (worker.step >= worker.horizon)
        fresh = self.fresh(theta, data, key, worker.windows)
        return where(due, fresh, worker), due

    def step(
        self, theta: Any, data: Any, worker: Worker, keys: tuple[jax.Array, jax.Array]
    ) -> tuple[Worker, tuple[Any, ...]]:
        """Returns the worker one update on, and the first fields of `Losses`.

        Args:
          theta: of the rule.
          data: of the family.
          worker: before the step.
          keys: of the batch that it trains on, and of those of the meta-loss after it.
        """
        key, next_key = keys
        task = self.family.task(worker.draw)
        batch_key, loss_key = jax.random.split(key)
        batch = task.batch(data, batch_key, "train")
        _, carried, grads = base.gradient(
            task, worker.params, loss_key, batch, worker.carried
        )
        tx = self.optimizer(theta, worker.horizon)
        updates, opt_state = tx.update(grads, worker.opt_state, worker.params)
        led, expert = (), ()
        if self.imitation is not None:
            updates, led, expert = _led(self.imitation, worker, updates, grads)
        after = worker._replace(
            params=optax.apply_updates(worker.params, updates),
            carried=carried,
            opt_state=opt_state,
            expert=expert,
            step=worker.step + 1,
        )
        value = self.meta_loss(after, data, next_key)
        after = after._replace(best=jnp.minimum(worker.best, value))
        return after, self._losses(value, after, worker, led)

    def window(
        self,
        theta: Any,
        worker: Worker,
        data: Any,
        key: jax.Array,
        later: Any = None,
        salt: Any = None,
    ) -> tuple[Worker, Losses]:
        """Returns the worker a window on, and losses [W].

        A worker that reaches its horizon inside the window restarts there, and goes
        on with `later` for its theta, which is `theta` by default.
        """
        how = self.step, self.restart, theta, worker, data, key, self.windows
        return unroll.window(*how, later, salt)

    def unroll(
        self,
        theta: Any,
        worker: Worker,
        data: Any,
        key: jax.Array,
        num_steps: int,
        salt: Any = None,
    ) -> tuple[Worker, Losses]:
        """Returns the worker so many updates on, past its horizon too, and losses."""
        return unroll.unroll(self.step, theta, worker, data, key, num_steps, salt)

    def run(
        self, theta: Any, worker: Worker, data: Any, key: jax.Array, salt: Any = None
    ) -> tuple[Worker, Losses]:
        """Returns the worker at its horizon, and losses [`longest`].

        Rematerialised, so that memory grows as the root of its length. Means of
        `objective` and `unlikeness` are means over the steps of the run.
        """
        most = self.horizon[1]
        return unroll.run(self.step, theta, worker, data, key, most, salt)

    def loss(
        self, worker: Worker, data: Any, key: jax.Array, split: str = "train"
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Returns (loss, aux) of a worker on a batch drawn from key."""
        task = self.family.task(worker.draw)
        return _loss(task, worker, data, key, split)

    def meta_loss(self, worker: Worker, data: Any, key: jax.Array) -> jax.Array:
        """Returns the meta-loss: normalised losses, weighted over splits.

        With `log_offset` their logarithms instead. Batches are drawn from key.
        """
        task = self.family.task(worker.draw)
        total = 0
        for split, weight in self.shares.items():
            value = task.normalise(_loss(task, worker, data, key, split)[0])
            if self.log_offset is not None:
                value = jnp.log(self.log_offset + value)
            total += weight * value
        return total

    @functools.cached_property
    def _mup(self) -> optax.GradientTransformationExtraArgs:
        info = mup.infer(self.family.shapes, self.family.base_shapes)
        return mup.scale_updates(info)

    def _most(self, windows: jax.Array) -> Any:
        """Returns the most inner steps of a run that begins after so many windows."""
        least, most = self.horizon
        if not self.growth:
            return most
        grown = least * (most / least) ** jnp.minimum(1.0, windows / self.growth)
        return jnp.where(windows < self.growth, grown, most)  # else rounded below it

    def _losses(
        self, value: jax.Array, after: Worker, before: Worker, led: tuple
    ) -> tuple[jax.Array, jax.Array, Any]:
        """Returns meta-loss, objective and unlikeness of a step."""
        objective = REDUCTIONS[self.reduce](value, after, before.best)
        if self.imitation is None:
            return value, objective, ()
        unlike = Unlikeness(objective, *led)
        return value, self.imitation.objective(unlike, before.windows), unlike


def _led(
    imitation: Imitation, worker: Worker, updates: Any, grads: Any
) -> tuple[Any, tuple[jax.Array, jax.Array], Any]:
    """Returns the update that is taken, l_dir and l_mag, and the expert's state."""
    tx = imitation.optimizer()
    theirs, state = tx.update(grads, worker.expert, worker.params)
    mixed = imitation.mixed(updates, theirs, worker.windows)
    return mixed, unlikeness(updates, theirs), state


def _loss(
    task: Task, worker: Worker, data: Any, key: jax.Array, split: str
) -> tuple[jax.Array, dict[str, Any]]:
    """Returns (loss, aux) on a batch drawn from key."""
    batch_key, loss_key = jax.random.split(key)
    batch = task.batch(data, batch_key, split)
    measure = base.loss if split == "train" else base.evaluate
    return measure(task, worker.params, loss_key, batch, worker.carried)


def _log_uniform(key: jax.Array, low: int, high: Any) -> jax.Array:
    """Returns an integer of [low, high], uniform in its logarithm."""
    log = jax.random.uniform(key, minval=jnp.log(low), maxval=jnp.log(high + 1))
    return jnp.clip(jnp.floor(jnp.exp(log)), low, high).astype(jnp.int32)
