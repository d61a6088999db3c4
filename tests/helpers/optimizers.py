"""Every rule and baseline, with parameters of every rank to update."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from tiny_rule import ARGS, descending

from lopt import mup, rules
from lopt.baselines import BASELINES

PARAMS = {
    "matrix": jnp.linspace(-1, 1, 12).reshape(3, 4),
    "vector": jnp.array([0.5, -1.0, 2.0, 0.1]),
    "scalar": jnp.float32(0.7),
    "empty": jnp.zeros((0, 3)),
}
# No singular value of the matrix is small, that Muon may not amplify its rounding.
GRADS = jax.tree.map(lambda x: 0.3 * jnp.cos(7 * x**2 + 3 * x), PARAMS)
SMALL, SMALL_GRADS = ({"matrix": x["matrix"]} for x in (PARAMS, GRADS))

# name -> start and loss; each optimum is inside, its loss 0.
TARGETS = {
    "parabola": (jnp.zeros((2, 3)), lambda x: jnp.sum(jnp.square(x - 0.5))),
    "valley": (jnp.ones(4), lambda x: jnp.sum(jnp.array([1, 2, 5, 10]) * x**2)),
    "rosenbrock": (
        jnp.array([-0.5, 1.0]),
        lambda x: (1 - x[0]) ** 2 + 10 * (x[1] - x[0] ** 2) ** 2,
    ),
    "scalar": (jnp.array(1.0), lambda x: jnp.square(x + 0.5)),
}
SHAPES = PARAMS | {name: start for name, (start, _) in TARGETS.items()}
HIDDEN = {"matrix": jnp.zeros((6, 8)), "parabola": jnp.zeros((4, 6))}
INFO = mup.infer(SHAPES, SHAPES, wider=SHAPES | HIDDEN)


EPSILONS, TIMES = ("relative", "absolute"), ("absolute", "relative", "log")


def variants():
    """Returns name -> (num_steps -> optimizer) of every variant of the rule."""
    found = {}
    for choice in itertools.product(("exp", "normalised"), EPSILONS, TIMES):
        head, eps, time = choice
        clip = None if eps == "absolute" else 8.0
        args = ARGS | dict(head=head, eps=eps, time=(time,), clip=clip)
        rule = rules.build("mlp", **args)
        bind = functools.partial(rule.bind, descending(rule))
        name = f"mlp-{head}-{eps}-eps-{time}-time"
        found[name] = lambda n, bind=bind: bind(num_steps=n)
    return found


# Rates at which targets are approached, and schedules, mixed.
TUNED = {
    "sgdm": (0.03, "linear"),
    "nesterov": (0.01, "cosine"),
    "adam": (0.03, "constant"),
    "adamw": (0.03, "cosine"),
    "nadamw": (0.03, "wsd"),
    "amsgrad": (0.03, "linear"),
    "adafactor": (0.1, "linear"),
    "lamb": (0.03, "cosine"),
    "lion": (0.01, "linear"),
    "muon": (0.03, "cosine"),
    "schedule_free_adamw": (0.1, "constant"),
    "prodigy": (1.0, "constant"),
    "muadam": (0.03, "linear"),
    "musgd": (0.01, "wsd"),
}


def hand_designed():
    """Returns name -> (num_steps -> optimizer) of every baseline, schedules mixed."""

    def build(num_steps, name):
        rate, schedule = TUNED[name]
        return BASELINES[name].build(
            num_steps=num_steps, info=INFO, learning_rate=rate, schedule=schedule
        )

    return {name: functools.partial(build, name=name) for name in BASELINES}


def decayed():
    """Returns name -> (num_steps -> optimizer) of baselines with learned decay."""
    found = {}
    for baseline, rate in (("sgdm", 0.003), ("adam", 0.03)):
        args = dict(baseline=baseline, learning_rate=rate, initial=1e-3)
        rule = rules.build("weight_decay", **args)
        bind = functools.partial(rule.bind, rule.init(jax.random.key(0)))
        found[f"weight_decay-{baseline}"] = lambda n, bind=bind: bind(num_steps=n)
    return found


RULES = variants()
OPTIMIZERS = RULES | decayed() | hand_designed()


@functools.cache
def build(name):
    return OPTIMIZERS[name](400)


def run(tx, grads=GRADS, params=PARAMS, **extra):
    """Returns the second update and the state after it, computed op by op."""
    state = tx.init(params)
    for _ in range(2):
        updates, state = tx.update(grads, state, params, **extra)
    return updates, state


@functools.cache
def plain(name):
    return run(build(name))


def same(found, expected, rtol=1e-5):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    close = functools.partial(np.testing.assert_allclose, rtol=rtol, atol=1e-8)
    jax.tree.map(close, found, expected)
