"""A baseline with learned weight decay: theta enters what is minimised."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lopt.baselines import BASELINES
from lopt.names import find
from lopt.types import LearnedOptimizer, Params, Theta


def weight_decay(
    *, baseline: str = "sgdm", learning_rate: float = 0.1, initial: float = 1e-4
) -> LearnedOptimizer:
    """Returns a baseline with learned weight decay, 1/2 sum exp(log_decay) |x|^2.

    The decay is coupled: its gradient is added to that of the loss before the baseline
    sees it. So it moves the optimum, by the same whatever the baseline and its rate,
    and meta-gradients may be implicit. Leaves of rank 2 or more ("matrix") have a decay
    of their own, those below ("vector") another.

    Args:
      baseline: "sgdm" or "adam", as in `BASELINES`, without a schedule; or
        `module:attribute` of a function of `num_steps` and `learning_rate` that is
        annotated `-> optax.GradientTransformation`.
      learning_rate: of the baseline, > 0.
      initial: both decays of the first theta, > 0.

    Raises:
      ValueError: for another baseline, or a rate or decay that is not positive.
    """
    kinds = ("GradientTransformation", "GradientTransformationExtraArgs")
    build = find("baseline", baseline, COUPLED, *kinds)
    if not (learning_rate > 0 and initial > 0):
        raise ValueError(
            "learning_rate and initial must be positive, got "
            f"{learning_rate=} and {initial=}."
        )

    def init(key: jax.Array) -> Theta:
        del key
        start = jnp.log(initial)
        return {"log_decay": {"matrix": start, "vector": start}}

    def penalty(theta: Theta, params: Params) -> jax.Array:
        decays = jax.tree.map(jnp.exp, theta["log_decay"])

        def share(x: Any) -> jax.Array:
            x = _wide(x)
            decay = decays["matrix" if x.ndim >= 2 else "vector"]
            return 0.5 * decay.astype(x.dtype) * jnp.sum(jnp.square(x))

        return sum(map(share, jax.tree.leaves(params)), jnp.zeros([]))

    def bind(
        theta: Theta, *, num_steps: Any = None
    ) -> optax.GradientTransformationExtraArgs:
        tx = build(num_steps=num_steps, learning_rate=learning_rate)
        return _penalised(tx, functools.partial(penalty, theta))

    return LearnedOptimizer(init, bind, penalty)


# Baselines without a decay of their own, and what lets theta be differentiated through
# them: the root of no gradient has no derivative, and 1e-30 is lost in any other.
COUPLED = {
    "sgdm": BASELINES["sgdm"].build,
    "adam": functools.partial(BASELINES["adam"].build, eps_root=1e-30),
}


def _penalised(tx: Any, penalty: Any) -> optax.GradientTransformationExtraArgs:
    """Returns `tx` on the loss plus a penalty of params, in float32 or wider."""

    def update(grads, state, params=None, *, value=None, **extra):
        del value, extra  # of the loss alone
        if params is None:
            raise ValueError(
                "this rule decays the parameters: call update(..., params)."
            )
        wide = jax.tree.map(_wide, params)
        total = jax.tree.map(lambda g, d: _wide(g) + d, grads, jax.grad(penalty)(wide))
        updates, state = tx.update(total, state, wide)
        narrow = lambda u, g: u.astype(jnp.asarray(g).dtype)  # noqa: E731
        return jax.tree.map(narrow, updates, grads), state

    return optax.GradientTransformationExtraArgs(tx.init, update)


def _wide(x: Any) -> jax.Array:
    """Returns an array, or a float of Python, in float32 or wider."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
