"""Builders of what `optax.contrib` has, where that alone would be wrong or NaN."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from lopt import mup
from lopt.baselines.builder import Transformation, built
from lopt.types import Params


@built
def muon(
    rate: optax.Schedule,
    info: mup.Info,
    *,
    momentum: Any = 0.95,
    adam_share: Any = 1.0,
    b1: Any = 0.9,
    b2: Any = 0.95,
    eps: Any = 1e-8,
    weight_decay: Any = 0.1,
) -> Any:
    """Returns Muon for hidden matrices and AdamW for the rest, as in arXiv:2502.16982.

    Orthogonalised steps are multiplied by 0.2 sqrt(max(fan-in, fan-out)), so that their
    RMS is that of AdamW's: rate and decay serve both. Kernels of more axes, as HWIO,
    are matrices whose last axis is the fan-out.

    Args:
      rate: of hidden leaves.
      info: from `mup.infer`, with `wider` for networks at their base width. Inputs,
        embeddings, readouts, biases and gains have one growing axis or none.
      momentum: of hidden leaves, Nesterov's.
      adam_share: rate of the other leaves over that of hidden ones.
      b1: decay of the other leaves' first moments.
      b2: decay of their second moments.
      eps: added to divisors.
      weight_decay: decoupled, of every leaf.
    """

    def labels(params: Params) -> Params:
        hidden = mup.are_hidden(info, params)
        return jax.tree.map(lambda x: "hidden" if x else "other", hidden)

    def fans(params: Params) -> Params:
        def split(x: jax.Array) -> Any:
            *fan_in, fan_out = range(x.ndim)
            return optax.contrib.MuonDimensionNumbers(tuple(fan_in), fan_out)

        return jax.tree.map(split, params)

    hidden = optax.contrib.muon(
        rate,
        beta=momentum,
        eps=eps,
        weight_decay=weight_decay,
        muon_weight_dimension_numbers=fans,
        consistent_rms=0.2,
    )
    # Optax's muon has Nesterov's Adam for them.
    other = optax.adamw(
        lambda count: adam_share * rate(count),
        b1=b1,
        b2=b2,
        eps=eps,
        weight_decay=weight_decay,
    )
    return optax.partition({"hidden": hidden, "other": other}, labels)


@built
def schedule_free_adamw(
    rate: optax.Schedule,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    weight_decay: Any = 1e-2,
) -> Any:
    """Returns Schedule-Free AdamW (arXiv:2405.15682); b1 must be positive.

    The parameters to judge are not those that gradients are taken at: see
    `schedule_free_params`. Averages are weighted by the rate alone, without Adam's bias
    correction, as in the authors' code since version 1.3.
    """
    base = optax.chain(
        optax.scale_by_rms(b2, eps, eps_in_sqrt=False, bias_correction=True),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(rate),
    )
    # `schedule_free` counts from 1: given `rate`, it would be a step ahead of `base`.
    return optax.contrib.schedule_free(base, lambda count: rate(count - 1), b1=b1)


def schedule_free_params(state: Any, params: Params) -> Params:
    """Returns the average x, from the state and the y that gradients are taken at."""
    average = optax.contrib.schedule_free_eval_params(state, params)
    return jax.tree.map(lambda x, y: x.astype(jnp.asarray(y).dtype), average, params)


@built
def prodigy(
    rate: optax.Schedule,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    initial: Any = 1e-6,
    weight_decay: Any = 0.0,
) -> Any:
    """Returns Prodigy (arXiv:2306.06101), which estimates Adam's rate as it runs.

    Optax's `safeguard_warmup` stays off, under a warm-up too. It takes out of one sum
    not only the warm-up but all of the schedule and the correction of Adam's biases, so
    that the estimate hardly grows: under cosine annealing, small networks' losses after
    200 steps are 10 times as high.

    Args:
      rate: multiplies the estimate; 1 but for its schedule.
      b1: decay of first moments.
      b2: decay of second moments; its root is that of the estimate's sums.
      eps: added to divisors, times the estimate.
      initial: the first estimate, which only grows; less than the best.
      weight_decay: decoupled.
    """
    tx = optax.contrib.prodigy(
        rate, betas=(b1, b2), eps=eps, estim_lr0=initial, weight_decay=weight_decay
    )

    def update(grads, state, params=None, **extra):
        updates, new = tx.update(grads, state, params, **extra)
        # Until a gradient is not zero the estimate is 0/0: nothing moves.
        began = optax.tree.max(jax.tree.map(lambda x: jnp.any(x != 0), new.grad_sum))
        estimate = jnp.where(began, new.estim_lr, state.estim_lr)
        updates = jax.tree.map(lambda u: jnp.where(began, u, 0), updates)
        return updates, new._replace(estim_lr=estimate)

    # Copies, that both the state and the parameters may be donated.
    return Transformation(lambda p: tx.init(jax.tree.map(jnp.copy, p)), update)
