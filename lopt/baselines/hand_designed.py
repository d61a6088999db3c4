"""Builders of hand-designed optimizers; see `builder` for what they all take."""

from typing import Any

import jax
import optax

from lopt import mup
from lopt.baselines.builder import built
from lopt.types import Params


@built
def sgdm(rate: optax.Schedule, *, momentum: Any = 0.9) -> Any:
    """Returns SGD with heavy-ball momentum: m <- momentum m + g, step -rate m."""
    return optax.sgd(rate, momentum=momentum)


@built
def nesterov(rate: optax.Schedule, *, momentum: Any = 0.9) -> Any:
    """Returns SGD with Nesterov's momentum: step -rate (g + momentum m)."""
    return optax.sgd(rate, momentum=momentum, nesterov=True)


@built
def adam(
    rate: optax.Schedule,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    eps_root: Any = 0.0,
) -> Any:
    """Returns Adam (arXiv:1412.6980).

    With `eps_root` > 0, added below the root, it may be differentiated where an entry
    has not had a gradient yet: the root has no derivative at 0.
    """
    return optax.adam(rate, b1=b1, b2=b2, eps=eps, eps_root=eps_root)


@built
def adamw(
    rate: optax.Schedule,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    weight_decay: Any = 1e-2,
) -> Any:
    """Returns Adam with decoupled weight decay of every leaf (arXiv:1711.05101)."""
    return optax.adamw(rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)


@built
def nadamw(
    rate: optax.Schedule,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    weight_decay: Any = 1e-2,
) -> Any:
    """Returns AdamW with Nesterov's momentum (Dozat 2016; as in arXiv:2306.07179)."""
    return optax.nadamw(rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)


@built
def amsgrad(
    rate: optax.Schedule, *, b1: Any = 0.9, b2: Any = 0.999, eps: Any = 1e-8
) -> Any:
    """Returns AMSGrad as in the paper (arXiv:1904.09237): no bias is corrected."""
    return optax.amsgrad(
        rate, b1=b1, b2=b2, eps=eps, bias_correction_mu=False, bias_correction_nu=False
    )


@built
def adafactor(
    rate: optax.Schedule,
    *,
    momentum: Any = 0.0,
    decay: Any = 0.8,
    weight_decay: Any = 1e-2,
) -> Any:
    """Returns Adafactor (arXiv:1804.04235), whose rate is relative to each leaf's RMS.

    Args:
      rate: RMS of a step over that of the leaf, or over 1e-3 if that is less.
      momentum: decay of the average of steps.
      decay: c of the decay 1 - t^-c of second moments, factored from 128 x 128.
      weight_decay: decoupled, and multiplied by the rate as in AdamW.
    """
    return optax.chain(
        optax.adafactor(rate, decay_rate=decay),
        optax.ema(momentum, debias=False),  # Optax's own is in float32 always
        optax.add_decayed_weights(lambda count: -rate(count) * weight_decay),
    )


@built
def lamb(
    rate: optax.Schedule,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-6,
    weight_decay: Any = 1e-2,
) -> Any:
    """Returns LAMB (arXiv:1904.00962): AdamW's steps, as long as what they change.

    Leaves of rank below 2 take AdamW's own steps, as in the authors' code, because a
    bias that starts at zero has no length to scale by.
    """

    def matrices(tree: Params) -> Params:
        return jax.tree.map(lambda x: x.ndim >= 2, tree)

    return optax.chain(
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        optax.add_decayed_weights(weight_decay),
        optax.masked(optax.scale_by_trust_ratio(), matrices),
        optax.scale_by_learning_rate(rate),
    )


@built
def lion(
    rate: optax.Schedule, *, b1: Any = 0.9, b2: Any = 0.99, weight_decay: Any = 0.1
) -> Any:
    """Returns Lion (arXiv:2302.06675): signs of momentum, and decoupled decay."""
    return optax.lion(rate, b1=b1, b2=b2, weight_decay=weight_decay)


@built
def muadam(
    rate: optax.Schedule,
    info: mup.Info,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
) -> Any:
    """Returns Adam under muP (arXiv:2203.03466): its rate is that of the base width."""
    return optax.chain(
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        mup.scale_updates(info, like="adam"),
        optax.scale_by_learning_rate(rate),
    )


@built
def musgd(rate: optax.Schedule, info: mup.Info, *, momentum: Any = 0.9) -> Any:
    """Returns SGD with heavy-ball momentum under muP (arXiv:2203.03466)."""
    return optax.chain(
        optax.trace(decay=momentum),
        mup.scale_updates(info, like="sgd"),
        optax.scale_by_learning_rate(rate),
    )
