"""A buffer of failing runs: those that end may go on from where they got worse."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from meta_train.inner.worker import Losses, Worker, where


class Climb(NamedTuple):
    """How far the losses of a run have risen; scalars.

    Attributes:
      now: c_t = max(0, c + L_t - L_{t-1}), the rise since the least loss.
      most: M = max c.
      last: L_{t-1}, infinite before a run's first loss, so that this is no rise.
    """

    now: jax.Array
    most: jax.Array
    last: jax.Array


class Buffered(NamedTuple):
    """What one worker keeps.

    Attributes:
      own: the state of the estimator.
      slot: another, from before an earlier window.
      filled: whether there is one.
      climb: of the present run, since it began or went on.
    """

    own: Any
    slot: Any
    filled: jax.Array
    climb: Climb


def buffered(
    start: Callable[..., Any], contribution: Callable[..., Any], *, fresh: float
) -> tuple[Callable[..., Buffered], Callable[..., Any]]:
    """Returns the arguments of `per_worker`, with a slot for each worker (ELO).

    After arXiv:2607.06772. If the losses of a run (of a pair, their mean) rose further
    than ever in a window, or the run ended in it, the state from before the window goes
    to the slot; not from before a window that diverged, which would diverge again. A
    run that ended or diverged is followed by a fresh one or by that of the slot, whose
    horizon then is its step and that of the fresh one together. So late steps of long
    runs are seen, and the steps where a rule fails are seen more often.

    A slot is all that an estimator keeps of a worker, the scores of its kicks included,
    so that each loss is still weighted by what its own run has seen. Which windows
    there are depends on losses, though, and so on theta and kicks: what that does to
    the gradient is not estimated. The state is twice as large.

    Args:
      start: (theta, data, key) -> the state of one worker.
      contribution: (theta, state, data, key) -> `Contribution`.
      fresh: probability of the fresh run, in (0, 1).
    """

    def start_buffered(theta: Any, data: Any, key: jax.Array) -> Buffered:
        worker = start(theta, data, key)
        return Buffered(worker, worker, jnp.bool_(False), _none())

    def contribution_buffered(
        theta: Any, state: Buffered, data: Any, key: jax.Array
    ) -> Any:
        own_key, choice_key = jax.random.split(key)
        out = contribution(theta, state.own, data, own_key)
        climb, rose = climbed(state.climb, out.losses)
        push = out.valid & (rose | out.restarted)
        slot = where(push, state.own, state.slot)
        filled = state.filled | push
        over = out.restarted | ~out.valid
        again = over & filled & ~jax.random.bernoulli(choice_key, fresh)
        worker = where(again, _going_on(slot, out.state), out.state)
        # A run that began inside the window has losses already.
        keep = ~again & out.valid & (~out.restarted | out.losses.later.any())
        after = Buffered(worker, slot, filled, where(keep, climb, _none()))
        return out._replace(state=after)

    return start_buffered, contribution_buffered


def climbed(climb: Climb, losses: Losses) -> tuple[Climb, jax.Array]:
    """Returns that of the last run of a window, and whether the first one's M rose.

    Args:
      climb: before the window.
      losses: [W], of at most two runs.
    """

    def step(carry: tuple, seen: tuple) -> tuple[tuple, None]:
        before, rose = carry
        value, taken, later, begins = seen
        before = where(begins, _none(), before)
        now = jnp.maximum(0, before.now + value - before.last)
        after = Climb(now, jnp.maximum(before.most, now), value)
        rose |= taken & ~later & (after.most > before.most)
        return (where(taken, after, before), rose), None

    begins = jnp.cumsum(losses.later) == 1  # runs that began stay so
    seen = (losses.value.astype(float), losses.taken, losses.later, begins)
    return jax.lax.scan(step, (climb, jnp.bool_(False)), seen)[0]


def _none() -> Climb:
    """Returns the climb of a run without losses."""
    return Climb(*jnp.array([0.0, 0.0, jnp.inf], float))


def _going_on(slot: Any, fresh: Any) -> Any:
    """Returns the state of a slot, whose runs may last as long again as fresh ones."""

    def longer(saved: Any, new: Any) -> Any:
        if not isinstance(saved, Worker):
            return saved
        horizon = saved.step + new.horizon
        return saved._replace(horizon=horizon, windows=new.windows)

    return jax.tree.map(longer, slot, fresh, is_leaf=lambda x: isinstance(x, Worker))
