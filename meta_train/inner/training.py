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
from meta_train.inner import batches, objectives, unroll
from meta_train.inner.batches import Given
from meta_train.inner.imitation import Imitation
from meta_train.inner.meta_loss import MetaLoss
from meta_train.inner.worker import Losses, Step, Worker, where
from tasks import base
from tasks.base import TaskFamily


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    """Inner training of ONE worker; estimators vmap its methods.

    `window`, `run` and `unroll` take steps: an update each, and then the meta-loss
    (`meta_loss`) of the parameters after it.

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
        least, most = self.windows
        worker, given, rest_key = self._begun(worker, data, key, most, salt)
        new = theta if later is None else later

        def advance(carry, given):
            worker, began = carry
            now = theta if later is None else where(began, later, theta)
            return self._step(now, data, worker, given)

        after, steps, ended = unroll.window(
            advance,
            lambda key: self.fresh(new, data, key, worker.windows),
            worker,
            given,
            jax.random.split(rest_key, most),
            least=least,
            shortest=self.horizon[0],
        )
        return self._judged(worker, after, data, given, steps, ended)

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
        how = theta, worker, data, key, num_steps, salt
        return self._stepped(unroll.unroll, *how)

    def run(
        self, theta: Any, worker: Worker, data: Any, key: jax.Array, salt: Any = None
    ) -> tuple[Worker, Losses]:
        """Returns the worker at its horizon, and losses [`longest`].

        Rematerialised, so that memory grows as the root of its length. Means of
        `objective` and `unlikeness` are means over the steps of the run.
        """
        how = theta, worker, data, key, self.longest, salt
        after, losses = self._stepped(unroll.run, *how)
        remaining = worker.horizon - worker.step
        objective, unlike = jax.tree.map(
            lambda x: x * self.longest / remaining,
            (losses.objective, losses.unlikeness),
        )
        return after, losses._replace(objective=objective, unlikeness=unlike)

    def loss(
        self, worker: Worker, data: Any, key: jax.Array, split: str = "train"
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Returns (loss, aux) of a worker on a batch drawn from key."""
        task = self.family.task(worker.draw)
        return batches.loss(task, worker, data, Given(key, {}), split)

    def meta_loss(self, worker: Worker, data: Any, key: jax.Array) -> jax.Array:
        """Returns the meta-loss: normalised losses, weighted over splits.

        With `log_offset` their logarithms instead. Batches are drawn from key.
        """
        return self._judge.measured(worker, data, Given(key, {}), self.shares)

    @functools.cached_property
    def _judge(self) -> MetaLoss:
        may_lag = self.horizon[0] >= self.num_steps
        return MetaLoss(self.family, self.shares, self.log_offset, may_lag)

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

    def _begun(
        self, worker: Worker, data: Any, key: jax.Array, num_steps: int, salt: Any
    ) -> tuple[Worker, Given, jax.Array]:
        """Returns the worker, what batches of steps and one are drawn by, and a key."""
        worker = worker._replace(windows=worker.windows + 1)
        task = self.family.task(worker.draw)
        keys, rest_key = batches.keys(key, num_steps, salt)
        given = batches.given(task, data, keys, {"train", *self.shares})
        return worker, given, rest_key

    def _step(
        self, theta: Any, data: Any, worker: Worker, given: tuple[Given, Given]
    ) -> tuple[Worker, Step]:
        """Returns the worker one update on, and what the step shows.

        Args:
          theta: of the rule.
          data: of the family.
          worker: before the step.
          given: of the batch that it trains on, and of those of the meta-loss after it.
        """
        task = self.family.task(worker.draw)
        batch, loss_key = batches.batch(task, data, given[0], "train")
        loss, carried, grads = base.gradient(
            task, worker.params, loss_key, batch, worker.carried
        )
        tx = self.optimizer(theta, worker.horizon)
        updates, opt_state = tx.update(grads, worker.opt_state, worker.params)
        led, expert = (), ()
        if self.imitation is not None:
            updates, led, expert = self.imitation.led(worker, updates, grads)
        after = worker._replace(
            params=optax.apply_updates(worker.params, updates),
            carried=carried,
            opt_state=opt_state,
            expert=expert,
            step=worker.step + 1,
        )
        value, trained = self._judge.after_step(after, data, given[1], loss)
        return after, Step(value, trained, led, after.step, after.horizon)

    def _stepped(
        self,
        unroll: Any,
        theta: Any,
        worker: Worker,
        data: Any,
        key: jax.Array,
        num_steps: int,
        salt: Any,
    ) -> tuple[Worker, Losses]:
        """Returns the worker after steps of one run, and losses."""
        worker, given, _ = self._begun(worker, data, key, num_steps, salt)

        def advance(worker, given):
            return self._step(theta, data, worker, given)

        after, steps = unroll(advance, worker, given)
        return self._judged(worker, after, data, given, steps)

    def _judged(
        self,
        worker: Worker,
        after: Worker,
        data: Any,
        given: Given,
        steps: Step,
        ended: Worker | None = None,
    ) -> tuple[Worker, Losses]:
        """Returns the worker and its losses, of steps whose meta-losses may lag."""
        steps = self._judge.completed(steps, after, ended, data, given)
        return objectives.judged(worker, after, steps, self.reduce, self.imitation)


def _log_uniform(key: jax.Array, low: int, high: Any) -> jax.Array:
    """Returns an integer of [low, high], uniform in its logarithm."""
    log = jax.random.uniform(key, minval=jnp.log(low), maxval=jnp.log(high + 1))
    return jnp.clip(jnp.floor(jnp.exp(log)), low, high).astype(jnp.int32)
