"""Meta-validation: the loss of averaged theta on inner runs it was not trained on."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from lopt.types import LearnedOptimizer
from meta_train import unroll
from tasks.base import TaskFamily


def scores(
    *,
    rule: LearnedOptimizer,
    families: Mapping[str, TaskFamily],
    schedule: dict[str, Any] | None,
    valid_weight: float,
    lengths: tuple[int, ...],
    first_seed: int,
    num_seeds: int,
) -> Callable[[Any, tuple], dict[str, jax.Array]]:
    """Returns (theta, data) -> {family: score}, a program each; lower is better.

    A score is the mean over seeds and steps of the normalised loss of whole inner runs,
    averaged over run lengths; infinite when any run diverges. `data` is a tuple, an
    entry for each family.

    Args:
      rule: whose theta is judged.
      families: what it trains, by name.
      schedule: as in `unroll.inner`.
      valid_weight: as in `unroll.inner`.
      lengths: inner steps of the runs; some beyond the horizon trained at.
      first_seed: the first of the seeds; no other part of a run may use them.
      num_seeds: inner runs of each length.

    Raises:
      ValueError: if there are no lengths, or no seeds.
    """
    if not lengths or num_seeds < 1:
        raise ValueError(f"need lengths and seeds, got {lengths=} and {num_seeds=}.")

    def of(family: TaskFamily) -> Callable[[Any, Any], jax.Array]:
        runs = [
            unroll.inner(
                rule=rule,
                family=family,
                window=1,
                horizon=(length, length),
                growth=0,
                reduce="mean",
                valid_weight=valid_weight,
                schedule=schedule,
                stagger=False,
                log_offset=None,
                fresh=1.0,
                imitation=None,
            )
            for length in lengths
        ]

        @jax.jit
        def score(theta: Any, data: Any) -> jax.Array:
            means = [
                mean_loss(run, length, theta, data)
                for run, length in zip(runs, lengths, strict=True)
            ]
            mean = jnp.mean(jnp.stack(means))
            return jnp.where(jnp.isfinite(mean), mean, jnp.inf)

        return score

    def mean_loss(inner: unroll.Inner, length: int, theta: Any, data: Any) -> jax.Array:
        def one(seed: jax.Array) -> jax.Array:
            start_key, batch_key = jax.random.split(jax.random.key(seed))
            worker = inner.start(theta, data, start_key)
            _, losses = inner.unroll(theta, worker, data, batch_key, length)
            return jnp.mean(losses.value)

        return jnp.mean(jax.vmap(one)(first_seed + jnp.arange(num_seeds)))

    each = {name: of(family) for name, family in families.items()}

    def all_scores(theta: Any, data: tuple) -> dict[str, jax.Array]:
        own = zip(each.items(), data, strict=True)
        return {name: score(theta, arrays) for (name, score), arrays in own}

    return all_scores
