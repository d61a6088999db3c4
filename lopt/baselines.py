"""Hand-designed optimizers, and the hyperparameters of each that are worth tuning."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lopt import mup, schedules


class Baseline(NamedTuple):
    """A hand-designed optimizer and what to tune of it.

    Attributes:
      build: `build(*, num_steps, info=None, **hyperparameters)` -> an
        `optax.GradientTransformationExtraArgs`. `num_steps`, the updates of the run,
        and numeric hyperparameters may be traced; `schedule` is a name or index of
        `SCHEDULES`; `info` is from `mup.infer`, and only muP optimizers use it.
      space: values to try of each hyperparameter, their product being the budget.
    """

    build: Callable[..., optax.GradientTransformationExtraArgs]
    space: dict[str, tuple[Any, ...]]


def sgdm(
    *,
    num_steps: Any,
    info: mup.Info | None = None,
    learning_rate: Any,
    schedule: Any = "constant",
    momentum: Any = 0.9,
) -> optax.GradientTransformationExtraArgs:
    """Returns SGD with heavy-ball momentum: m <- momentum m + g, step -rate m."""
    del info
    rate = schedules.build(schedule, peak=learning_rate, num_steps=num_steps)
    return _wide(optax.sgd(rate, momentum=momentum))


def adam(
    *,
    num_steps: Any,
    info: mup.Info | None = None,
    learning_rate: Any,
    schedule: Any = "constant",
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """Returns Adam (arXiv:1412.6980)."""
    del info
    rate = schedules.build(schedule, peak=learning_rate, num_steps=num_steps)
    return _wide(optax.adam(rate, b1=b1, b2=b2, eps=eps))


def adamw(
    *,
    num_steps: Any,
    info: mup.Info | None = None,
    learning_rate: Any,
    schedule: Any = "constant",
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    weight_decay: Any = 1e-2,
) -> optax.GradientTransformationExtraArgs:
    """Returns Adam with decoupled weight decay of every leaf (arXiv:1711.05101)."""
    del info
    rate = schedules.build(schedule, peak=learning_rate, num_steps=num_steps)
    tx = optax.adamw(rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)
    return _wide(tx)


def muadam(
    *,
    num_steps: Any,
    info: mup.Info | None = None,
    learning_rate: Any,
    schedule: Any = "constant",
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """Returns Adam under muP (arXiv:2203.03466): its rate is that of the base width.

    Raises:
      ValueError: without `info`.
    """
    if info is None:
        raise ValueError("muadam needs info=mup.infer(shapes, base_shapes).")
    rate = schedules.build(schedule, peak=learning_rate, num_steps=num_steps)
    tx = optax.chain(
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        mup.scale_updates(info, like="adam"),
        optax.scale_by_learning_rate(rate),
    )
    return _wide(tx)


def _wide(
    tx: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Returns `tx` with its state in float32 or wider, and updates as gradients are."""
    tx = optax.with_extra_args_support(tx)

    def wide(x: Any) -> jax.Array:
        x = jnp.asarray(x)  # a float of Python too
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))

    widen = functools.partial(jax.tree.map, wide)

    def update(grads, state, params=None, **extra):
        updates, state = tx.update(widen(grads), state, widen(params), **extra)
        narrow = lambda u, g: u.astype(jnp.asarray(g).dtype)  # noqa: E731
        return jax.tree.map(narrow, updates, grads), state

    return optax.GradientTransformationExtraArgs(lambda p: tx.init(widen(p)), update)


# Wide enough that small networks have their optimum inside.
SGD_RATES = tuple(10 ** (k / 3) for k in range(-9, 4))  # 1e-3 to 10, 3 a decade
ADAM_RATES = tuple(10 ** (k / 4) for k in range(-16, -3))  # 1e-4 to .1, 4 a decade
EVERY = tuple(schedules.SCHEDULES)

BASELINES = {
    "sgdm": Baseline(sgdm, {"schedule": EVERY, "learning_rate": SGD_RATES}),
    "adam": Baseline(adam, {"schedule": EVERY, "learning_rate": ADAM_RATES}),
    "adamw": Baseline(adamw, {"schedule": EVERY, "learning_rate": ADAM_RATES}),
    "muadam": Baseline(muadam, {"schedule": EVERY, "learning_rate": ADAM_RATES}),
}
