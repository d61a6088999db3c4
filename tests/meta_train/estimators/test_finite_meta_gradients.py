"""Every rule under every estimator: meta-gradients are finite, or refused by name."""

import itertools

import jax
import jax.numpy as jnp
import pytest
import tiny
import tiny_rule
import toys
from measured import KEY

from lopt import rules
from lopt.types import LearnedOptimizer
from meta_train import estimators
from tasks.base import Task, TaskFamily, fixed

DECAY = {"learning_rate": 1e-2, "initial": 1e-4}
TABLE = {
    "mlp": (
        "mlp",
        tiny_rule.ARGS | {"head": "normalised", "signal": True, "nominal": 1.0},
    ),
    "weight_decay-sgdm": ("weight_decay", DECAY | {"baseline": "sgdm"}),
    "weight_decay-adam": ("weight_decay", DECAY | {"baseline": "adam"}),
}
# What others of the table have in common with quicker ones.
ALIKE = ("multi_step", "smoothed", "truncated_es", "nres", "es", "combined")
SLOW = [("mlp", name) for name in ALIKE]


def half_blind() -> TaskFamily:
    """Returns a task of which an entry, a row and a leaf never see a gradient."""
    params = {"some": jnp.zeros((3, 2)), "none": jnp.zeros(2)}

    def loss(params, key, batch):
        return jnp.sum(jnp.square(params["some"].ravel()[:3] - 1)), {}

    task = Task(
        init=lambda key: params,
        loss=loss,
        batch=lambda data, key, split: jnp.zeros([]),
        normalise=lambda value: value,
    )
    shapes = jax.eval_shape(lambda: params)
    return fixed(task, name="half_blind", data={}, base_shapes=shapes)


def estimated(rule: LearnedOptimizer, name: str):
    """Returns an estimate from the start of a run."""
    inner = toys.inner(rule, half_blind(), window=2, horizon=2)
    args = tiny.estimators()[name]
    estimator = estimators.build(name, inner=inner, num_workers=2, **args)

    @jax.jit
    def estimate(theta):
        return estimator.estimate(theta, estimator.init(theta, {}, KEY), {}, KEY)[0]

    return estimate(rule.init(KEY))


def test_every_rule_is_in_the_table():
    assert {name for name, _ in TABLE.values()} == set(rules.RULES)
    baselines = [args.get("baseline") for _, args in TABLE.values()]
    assert set(rules.weight_decay.COUPLED) == set(baselines) - {None}


@pytest.mark.parametrize(
    ("rule", "estimator"),
    [
        pytest.param(r, e, marks=pytest.mark.slow if (r, e) in SLOW else ())
        for r, e in itertools.product(TABLE, estimators.ESTIMATORS)
    ],
)
def test_meta_gradients_are_finite_where_parameters_have_none(rule, estimator):
    name, args = TABLE[rule]
    built = rules.build(name, **args)
    if estimator == "implicit" and name not in rules.PENALISED:
        with pytest.raises(ValueError, match="those are: weight_decay"):
            estimated(built, estimator)
        return
    found = estimated(built, estimator)
    assert found.metrics["valid"] == 2 * (1 + (estimator == "combined"))
    assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(found.grad))
