"""One inner run, and what its steps show."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from meta_train.inner.imitation import Unlikeness


class Worker(NamedTuple):
    """One inner run.

    Attributes:
      draw: names the task.
      params: inner parameters.
      carried: what the task carries, such as running statistics.
      opt_state: state of the rule, muP scaling and schedule.
      expert: state of the expert that is imitated; `()` without one.
      step: inner steps since the last restart; starts staggered.
      horizon: inner steps before the next restart.
      window: inner steps that a window of this run takes.
      windows: windows taken so far, over all restarts.
      best: least meta-loss of this run so far; infinite before the first.
    """

    draw: Any
    params: Any
    carried: Any
    opt_state: Any
    expert: Any
    step: jax.Array
    horizon: jax.Array
    window: jax.Array
    windows: jax.Array
    best: jax.Array

    def without_optimizer(self) -> "Worker":
        """Returns what its loss depends on."""
        return self._replace(opt_state=(), expert=())


class Step(NamedTuple):
    """What a step shows: scalars, or [W] of W steps.

    Attributes:
      value: meta-loss after the step, or what is known of it.
      trained: what the training loss before the step adds to a meta-loss, or `()`.
      led: l_dir and l_mag of the step, or `()`.
      step: inner steps of the run so far.
      horizon: of the run.
      taken: whether it was taken.
      later: whether its run began inside these W steps.
      ended: whether its run ended with it and another began.
    """

    value: jax.Array
    trained: Any
    led: Any
    step: jax.Array
    horizon: jax.Array
    taken: Any = True
    later: Any = False
    ended: Any = False

    def masked(self, taken: jax.Array) -> "Step":
        """Returns the step, with zeros in place of what differs if it was not taken."""
        led = jax.tree.map(lambda x: jnp.where(taken, x, 0.0), self.led)
        return self._replace(led=led, taken=taken)


class Losses(NamedTuple):
    """What W inner steps show; each [W], and 0 where no step was taken.

    Attributes:
      value: meta-losses L_t.
      objective: what theta is to lower; its mean over the steps of a run is L's
        mean, last or least, as `reduce` says, and partly imitation if asked.
      unlikeness: what objectives are mixed of; `()` without imitation.
      taken: whether the step was taken.
      later: whether its run began inside these W steps.
    """

    value: jax.Array
    objective: jax.Array
    unlikeness: Unlikeness | tuple[()]
    taken: jax.Array
    later: jax.Array

    def mean(self) -> jax.Array:
        """Returns the mean of the meta-losses, a scalar."""
        return jnp.sum(self.value) / jnp.maximum(1, jnp.sum(self.taken))


def where(condition: jax.Array, then: Any, otherwise: Any) -> Any:
    """Returns one of two trees, by a scalar."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), then, otherwise)
