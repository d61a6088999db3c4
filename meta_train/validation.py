"""Meta-validation: the loss of averaged theta on inner runs it was not trained on."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lopt.types import LearnedOptimizer
from meta_train import unroll
from tasks.base import TaskFamily


def score(
    *,
    rule: LearnedOptimizer,
    families: tuple[TaskFamily, ...],
    schedule: dict[str, Any] | None,
    valid_weight: float,
    lengths: tuple[int, ...],
    first_seed: int,
    num_seeds: int,
) -> Callable[[Any, Any], jax.Array]:
    """Returns `(theta, data) -> score`, compiled; lower is better.

    The score is the mean over seeds and steps of the normalised loss of whole inner
    runs, averaged over run lengths and families, of whose data `data` is a tuple. It is
    infinite when any run diverges.

    Args:
      rule: whose theta is judged.
      families: what it trains.
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
    runs = [
        unroll.inner(
            rule=rule,
            family=family,
            window=1,
            horizon=(length, length),
            valid_weight=valid_weight,
            schedule=schedule,
            stagger=False,
            log_offset=None,
        )
        for family in families
        for length in lengths
    ]

    def mean_loss(inner: unroll.Inner, length: int, theta: Any, data: Any) -> jax.Array:
        def one(seed: jax.Array) -> jax.Array:
            start_key, batch_key = jax.random.split(jax.random.key(seed))
            worker = inner.start(theta, data, start_key)
            _, losses = inner.unroll(theta, worker, data, batch_key, length)
            return jnp.mean(losses)

        return jnp.mean(jax.vmap(one)(first_seed + jnp.arange(num_seeds)))

    @jax.jit
    def total(theta: Any, data: tuple) -> jax.Array:
        cases = [(own, length) for own in data for length in lengths]
        means = [
            mean_loss(run, length, theta, own)
            for run, (own, length) in zip(runs, cases, strict=True)
        ]
        mean = jnp.mean(jnp.stack(means))
        return jnp.where(jnp.isfinite(mean), mean, jnp.inf)

    return total
