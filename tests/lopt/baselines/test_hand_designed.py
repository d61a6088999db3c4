"""Hand-designed baselines against Optax where it is right, and else their papers."""

import functools

import jax
import optax
import pytest
import twins
from baseline_run import ADAM, ADAMW, OWN, PARAMS, built, by_twins, close, rate, run

from lopt.baselines import BASELINES, hand_designed


def scaled(tx, **factors):
    """Returns `tx` whose updates of each leaf are multiplied."""
    by = optax.stateless(lambda u, _: {k: factors[k] * u[k] for k in u})
    return optax.chain(tx, by)


# Widths are 2 x 2 and 2 x 3 times those of the base.
PLAIN = {
    "sgdm": optax.sgd(rate, momentum=0.8),
    "nesterov": optax.sgd(rate, momentum=0.8, nesterov=True),
    "adam": optax.adam(rate, **ADAM),
    "adamw": optax.adamw(rate, **ADAMW),
    "nadamw": optax.nadamw(rate, **ADAMW),
    "adafactor": optax.adafactor(
        rate,
        momentum=0.5,
        decay_rate=0.7,
        weight_decay_rate=lambda count: 0.1 * rate(count),
    ),
    "lion": optax.lion(rate, b1=0.8, b2=0.95, weight_decay=0.5),
    "muadam": scaled(optax.adam(rate, **ADAM), w=1 / 2, b=1.0, kernel=1 / 2),
    "musgd": scaled(optax.sgd(rate, momentum=0.8), w=1.0, b=2.0, kernel=3 / 2),
}


@pytest.mark.parametrize("name", PLAIN)
def test_baselines_equal_optax_step_by_step(name):
    close(run(built(name, **OWN[name])), run(PLAIN[name]), 2e-6)


# name -> the twins that step the leaves, each by itself
LEAVES = {
    "amsgrad": dict.fromkeys(PARAMS, functools.partial(twins.AmsGrad, **ADAM)),
    "lamb": dict.fromkeys(PARAMS, functools.partial(twins.Lamb, **ADAMW)),
}


@pytest.mark.parametrize("name", LEAVES)
def test_baselines_equal_their_papers_step_by_step(name):
    with jax.enable_x64():
        found = run(built(name, 100, **OWN[name]), 100)
        close(found, by_twins(LEAVES[name], 100)[1], 1e-6)


def test_every_baseline_of_the_file_is_compared_with_something():
    builders = {name: x.build.__module__ for name, x in BASELINES.items()}
    there = {name for name, file in builders.items() if file == hand_designed.__name__}
    assert there == {*PLAIN, *LEAVES}
