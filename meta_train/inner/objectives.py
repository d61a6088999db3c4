"""What theta is to lower, of the meta-losses of steps."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from meta_train.inner.imitation import Imitation, Unlikeness
from meta_train.inner.worker import Losses, Step, Worker

# name -> (meta-loss, step and horizon, least meta-loss before it) -> objective
REDUCTIONS: dict[str, Callable[..., jax.Array]] = {
    "mean": lambda value, at, best: value,
    "late": lambda value, at, best: 3 * jnp.square(at.step / at.horizon) * value,
    "last": lambda value, at, best: jnp.where(
        at.step == at.horizon, at.horizon * value, 0
    ),
    # Differences that telescope, so that a run may be cut into windows.
    "min": lambda value, at, best: (
        at.horizon * jnp.where(jnp.isinf(best), value, jnp.minimum(value - best, 0))
    ),
}


def judged(
    worker: Worker,
    after: Worker,
    steps: Step,
    reduce: str,
    imitation: Imitation | None,
) -> tuple[Worker, Losses]:
    """Returns the worker with its least meta-loss, and losses.

    Args:
      worker: before the steps.
      after: after them.
      steps: [W] of each.
      reduce: name in `REDUCTIONS`.
      imitation: as in `Inner`.
    """
    size = steps.value.shape
    flags = (steps.taken, steps.later, steps.ended)
    taken, later, ended = (jnp.broadcast_to(x, size) for x in flags)

    def lower(best, given):
        value, taken, ended = given
        now = jnp.where(taken, jnp.minimum(best, value), best)
        return jnp.where(ended, jnp.inf, now), best

    given = steps.value, taken, ended
    last, before = jax.lax.scan(lower, worker.best, given)
    objective = REDUCTIONS[reduce](steps.value, steps, before)
    unlike = ()
    if imitation is not None:
        unlike = Unlikeness(objective, *steps.led)
        objective = imitation.objective(unlike, worker.windows)
    value, objective, unlike = jax.tree.map(
        lambda x: jnp.where(taken, x, 0.0), (steps.value, objective, unlike)
    )
    losses = Losses(value, objective, unlike, taken=taken, later=later)
    return after._replace(best=last), losses
