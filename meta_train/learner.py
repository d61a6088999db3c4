"""One meta-step: estimate, clip, outer optimizer, average; one program a family."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lopt.types import LearnedOptimizer
from meta_train import programs
from meta_train.estimators import Estimate, Estimator, mixture
from tasks import costs

BLOCK = 1_024  # meta-steps whose families are drawn at once


class MetaState(NamedTuple):
    """Everything that a meta-training run carries from one meta-step to the next.

    Attributes:
      step: meta-steps done.
      theta: meta-parameters.
      average: exponential average of theta.
      outer: state of the outer optimizer.
      estimator: state of the estimator, as its `sharding` says over the devices.
    """

    step: jax.Array
    theta: Any
    average: Any
    outer: Any
    estimator: Any


class Learner(NamedTuple):
    """`init(data) -> state`; `step(state, data) -> (state, metrics)`, donating `state`.

    Attributes:
      init: makes the first state.
      step: one meta-step, by the program of the family whose turn it is. Its third
        argument is the number of meta-steps done; without it, the host waits for the
        device to tell.
      programs: one jitted meta-step for each family.
      arguments: (state, data, place of a family) -> arguments of its program.
    """

    init: Callable[[Any], MetaState]
    step: Callable[..., tuple[MetaState, dict[str, jax.Array]]]
    programs: list[Any]
    arguments: Callable[[MetaState, Any, int], tuple]

    def trace(self, data: Any) -> list[Any]:
        """Returns the traced programs, or raises what a meta-step would."""
        state = jax.eval_shape(self.init, data)
        return [
            program.trace(*self.arguments(state, data, place))
            for place, program in enumerate(self.programs)
        ]

    def compile(self, data: Any, say: Callable[[str], Any] = str) -> None:
        """Compiles all programs side by side; else each waits for its first turn.

        Args:
          data: of all families.
          say: takes a line of what is to come: how many there are, about how long.
        """
        if traced := self.trace(data):
            say(f"compiling meta-steps: {costs.compiling(*traced)}")
            self.programs[:] = programs.compiled(self.programs, traced)


def build(
    *,
    rule: LearnedOptimizer,
    estimator: Estimator,
    outer: optax.GradientTransformation,
    average: float,
    seed: int,
    mesh: Mesh,
) -> Learner:
    """Returns the learner of `rule`.

    Results do not depend on how many devices the mesh has, but for the order in
    which floats are summed.

    Args:
      rule: whose theta is learned.
      estimator: of the meta-gradient.
      outer: outer optimizer; clipping by global norm comes first in it, before any
        adaptive scaling.
      average: decay of the average of theta, in [0, 1); smaller at the start.
      seed: all keys are folded from it and the meta-step.
      mesh: devices along one axis, "worker".
    """
    replicated = NamedSharding(mesh, PartitionSpec())
    sharding = MetaState(
        *[replicated] * 4,
        estimator=jax.tree.map(lambda x: NamedSharding(mesh, x), estimator.sharding),
    )

    first_state = functools.partial(_first_state, rule, estimator, outer, seed)
    init = jax.jit(first_state, in_shardings=replicated, out_shardings=sharding)
    each = [
        _program(
            functools.partial(_meta_step, estimate, outer, average, seed),
            sharding._replace(estimator=_alone(estimator, sharding.estimator, place)),
            replicated,
        )
        for place, estimate in enumerate(estimator.turns or [estimator.estimate])
    ]
    family = _plan(estimator, seed)

    def arguments(state: MetaState, data: Any, place: int) -> tuple:
        part = state._replace(estimator=_alone(estimator, state.estimator, place))
        return part, (data[place], np.int32(place)) if estimator.turns else data

    def step(
        state: MetaState, data: Any, done: int | None = None
    ) -> tuple[MetaState, dict]:
        place = family(state.step if done is None else done)
        after, metrics = each[place](*arguments(state, data, place))
        if estimator.turns:
            whole = mixture.rejoined(state.estimator, after.estimator, place)
            after = after._replace(estimator=whole)
        return after, metrics

    return Learner(init, step, each, arguments)


def theta_key(seed: int) -> jax.Array:
    """Returns the key that the first theta of a run is made from."""
    return jax.random.split(jax.random.key(seed))[0]


def _key(seed: int, step: jax.Array) -> jax.Array:
    """Returns the key of a meta-step."""
    return jax.random.fold_in(jax.random.key(seed), step)


def _plan(estimator: Estimator, seed: int) -> Callable[[Any], int]:
    """Returns meta-step -> the place of its family.

    Families are drawn in blocks. The next block is drawn while one is in use, so that
    no meta-step waits for the device.
    """

    @jax.jit
    def drawn(first: jax.Array) -> jax.Array:
        steps = first + jnp.arange(BLOCK, dtype=jnp.int32)
        return jax.lax.map(lambda step: estimator.draw(_key(seed, step)), steps)

    block = functools.lru_cache(2)(lambda index: drawn(np.int32(index * BLOCK)))

    def family(step: Any) -> int:
        if estimator.draw is None:
            return 0
        index, place = divmod(int(step), BLOCK)
        now, _ = block(index), block(index + 1)
        return int(np.asarray(now)[place])

    return family


def _alone(estimator: Estimator, state: Any, place: int) -> Any:
    """Returns the part of an estimator's state, or shardings, that a program takes."""
    return mixture.alone(state, place) if estimator.turns else state


def _program(meta_step: Callable[..., Any], state: Any, rest: Any) -> Any:
    """Returns a jitted meta-step, given the shardings of its state and of the rest."""
    return jax.jit(
        meta_step,
        donate_argnums=0,
        in_shardings=(state, rest),
        out_shardings=(state, rest),
        keep_unused=True,  # as `programs.compiled` needs
    )


def _first_state(
    rule: LearnedOptimizer,
    estimator: Estimator,
    outer: optax.GradientTransformation,
    seed: int,
    data: Any,
) -> MetaState:
    """Returns the state that a run begins with."""
    _, worker_key = jax.random.split(jax.random.key(seed))
    # Weakly typed leaves would turn strong in the first step, and compile twice.
    theta = jax.tree.map(
        lambda x: jnp.asarray(x, jnp.result_type(x)), rule.init(theta_key(seed))
    )
    return MetaState(
        step=jnp.zeros([], jnp.int32),
        theta=theta,
        average=jax.tree.map(jnp.copy, theta),
        outer=outer.init(theta),
        estimator=estimator.init(theta, data, worker_key),
    )


def _meta_step(
    estimate_of: Callable[..., tuple[Estimate, Any]],
    outer: optax.GradientTransformation,
    average: float,
    seed: int,
    state: MetaState,
    data: Any,
) -> tuple[MetaState, dict[str, jax.Array]]:
    """Returns the state a meta-step on, and its metrics."""
    key = _key(seed, state.step)
    estimate, workers = estimate_of(state.theta, state.estimator, data, key)
    new, update_norm = _updated(outer, average, state, estimate)
    metrics = dict(
        estimate.metrics,
        loss=estimate.loss,
        grad_norm=optax.tree.norm(estimate.grad),
        update_norm=update_norm,
        finite=jnp.isfinite(optax.tree.norm(new[0])),
    )
    return MetaState(state.step + 1, *new, workers), metrics


def _updated(
    outer: optax.GradientTransformation,
    average: float,
    state: MetaState,
    estimate: Estimate,
) -> tuple[tuple[Any, Any, Any], jax.Array]:
    """Returns (theta, its average, the outer state) and the norm of the update.

    Without a valid worker they stay: momentum would move them without a gradient.
    """
    updates, outer_state = outer.update(estimate.grad, state.outer, state.theta)
    theta = optax.apply_updates(state.theta, updates)
    decay = jnp.minimum(average, (1 + state.step) / (10 + state.step))
    mean = jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, state.average, theta)
    new = jax.tree.map(
        lambda a, b: jnp.where(estimate.metrics["valid"] > 0, a, b),
        (theta, mean, outer_state),
        (state.theta, state.average, state.outer),
    )
    return new, optax.tree.norm(updates)
