"""One meta-step: estimate, clip, outer optimizer, average; one program a family."""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lopt.types import LearnedOptimizer
from meta_train.estimators import Estimate, Estimator
from tasks import costs


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
      step: one meta-step, by the program of the family whose turn it is.
      program: (state, data, draw) -> (state, metrics), jitted, for each of `draws`.
      draws: places of families; None alone where there is one.
    """

    init: Callable[[Any], MetaState]
    step: Callable[[MetaState, Any], tuple[MetaState, dict[str, jax.Array]]]
    program: Callable[..., tuple[MetaState, dict[str, jax.Array]]] | None = None
    draws: tuple[int | None, ...] = ()

    def trace(self, data: Any) -> None:
        """Raises what a meta-step of any family would."""
        state = jax.eval_shape(self.init, data)
        for draw in self.draws:
            self.program.eval_shape(state, data, draw)

    def compile(self, data: Any, say: Callable[[str], Any] = str) -> None:
        """Compiles all programs side by side; else each waits for its first turn.

        Args:
          data: of all families.
          say: takes a line of what is to come: how many there are, about how long.
        """
        state = jax.eval_shape(self.init, data)
        traced = [self.program.trace(state, data, draw) for draw in self.draws]
        if traced:
            say(f"compiling meta-steps: {costs.compiling(*traced)}")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            lowered = (program.lower() for program in traced)
            for compiling in [pool.submit(program.compile) for program in lowered]:
                compiling.result()


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
    meta_step = functools.partial(_meta_step, estimator, outer, average, seed)
    program = jax.jit(
        meta_step,
        static_argnums=2,
        donate_argnums=0,
        in_shardings=(sharding, replicated),
        out_shardings=(sharding, replicated),
    )
    init = jax.jit(first_state, in_shardings=replicated, out_shardings=sharding)
    draws: tuple = (None,)
    place = jax.jit(lambda step: estimator.draw(_key(seed, step)))
    if estimator.draw is not None:
        draws = tuple(range(len(estimator.sharding.own)))

    def step(state: MetaState, data: Any) -> tuple[MetaState, dict]:
        draw = int(place(state.step)) if len(draws) > 1 else None
        return program(state, data, draw)

    return Learner(init, step, program, draws)


def theta_key(seed: int) -> jax.Array:
    """Returns the key that the first theta of a run is made from."""
    return jax.random.split(jax.random.key(seed))[0]


def _key(seed: int, step: jax.Array) -> jax.Array:
    """Returns the key of a meta-step."""
    return jax.random.fold_in(jax.random.key(seed), step)


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
    estimator: Estimator,
    outer: optax.GradientTransformation,
    average: float,
    seed: int,
    state: MetaState,
    data: Any,
    draw: int | None,
) -> tuple[MetaState, dict[str, jax.Array]]:
    """Returns the state a meta-step on, and its metrics; `draw` is of the family."""
    args = state.theta, state.estimator, data, _key(seed, state.step)
    estimate, workers = estimator.estimate(*args, *[draw] * (draw is not None))
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
