"""Meta-validation: the loss of averaged theta on inner runs it was not trained on."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from lopt.types import LearnedOptimizer
from meta_train import programs
from meta_train.inner import options
from meta_train.inner.training import Inner
from tasks import costs
from tasks.base import TaskFamily


@dataclasses.dataclass(frozen=True)
class Scores:
    """theta -> {task: score}, lower is better; a program each.

    Attributes:
      each: {task: (theta, data) -> score, jitted, and the data}.
    """

    each: dict[str, tuple[Any, Any]]

    def __call__(self, theta: Any) -> dict[str, jax.Array]:
        """Returns the score of every task."""
        return {name: score(theta, data) for name, (score, data) in self.each.items()}

    def compile(self, theta: Any, say: Callable[[str], Any] = str) -> None:
        """Compiles all programs side by side, as `Learner.compile` does."""
        jitted, data = zip(*self.each.values(), strict=True)
        traced = [score.trace(theta, x) for score, x in self.each.values()]
        say(f"compiling meta-validation: {costs.compiling(*traced)}")
        each = zip(programs.compiled(jitted, traced), data, strict=True)
        self.each.update(zip(self.each, each, strict=True))


def scores(
    *,
    rule: LearnedOptimizer,
    tasks: Mapping[str, tuple[TaskFamily, tuple[int, ...]]],
    schedule: dict[str, Any] | None,
    valid_weight: float,
    log_offset: float | None,
    last: float,
    first_seed: int,
    num_seeds: int,
) -> Scores:
    """Returns theta -> {task: score}.

    A score is the mean over seeds and steps of the meta-loss of whole inner runs,
    averaged over run lengths; infinite when any run diverges.

    Args:
      rule: whose theta is judged.
      tasks: a family each, and the lengths of its runs in inner steps.
      schedule: as in `options.inner`.
      valid_weight: as in `options.inner`.
      log_offset: as in `options.inner`.
      last: share of a run's steps, at its end, that count, in (0, 1].
      first_seed: the first of the seeds; no other part of a run may use them.
      num_seeds: inner runs of each length.

    Raises:
      ValueError: if there are no lengths, or no seeds, or for another share.
    """
    lengths = [length for _, each in tasks.values() for length in each or (0,)]
    if min(lengths) < 1 or num_seeds < 1 or not 0 < last <= 1:
        raise ValueError(
            f"need lengths, seeds and 0 < last <= 1, got {lengths=}, {num_seeds=} and "
            f"{last=}."
        )

    built = functools.partial(
        options.inner,
        rule=rule,
        window=1,
        valid_weight=valid_weight,
        schedule=schedule,
        stagger=False,
        log_offset=log_offset,
    )
    counted = functools.partial(_mean_loss, last, first_seed + jnp.arange(num_seeds))
    each = {}
    for name, (family, lengths) in tasks.items():
        inners = {n: built(family=family, horizon=(n, n)) for n in lengths}
        score = functools.partial(_score, counted, inners)
        score = jax.jit(score, keep_unused=True)  # as `programs.compiled` needs
        each[name] = (score, family.data)
    return Scores(each)


def _score(
    mean_loss: Callable[..., jax.Array],
    inners: Mapping[int, Inner],
    theta: Any,
    data: Any,
) -> jax.Array:
    """Returns the mean over lengths of mean losses, infinite where a run diverged."""
    means = [mean_loss(inner, n, theta, data) for n, inner in inners.items()]
    mean = jnp.mean(jnp.stack(means))
    return jnp.where(jnp.isfinite(mean), mean, jnp.inf)


def _mean_loss(
    last: float, seeds: jax.Array, inner: Inner, length: int, theta: Any, data: Any
) -> jax.Array:
    """Returns the mean meta-loss at the ends of runs of one length."""
    count = math.ceil(last * length)

    def loss_of(seed: jax.Array) -> jax.Array:
        start_key, batch_key = jax.random.split(jax.random.key(seed))
        worker = inner.start(theta, data, start_key)
        _, losses = inner.unroll(theta, worker, data, batch_key, length)
        # An infinite loss may hide in the logarithms that do not count.
        return jnp.mean(losses.value[-count:]) + 0 * jnp.sum(losses.value)

    return jnp.mean(jax.vmap(loss_of)(seeds))
