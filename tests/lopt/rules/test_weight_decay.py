"""Learned weight decay: its penalty, its minimum, and the baselines below it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from measured import close
from tiny_rule import decay_rule

import lopt
from lopt import artifact, rules


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


PARAMS = {"m": jnp.array([[0.5, -0.3], [1.2, 0.1]]), "v": jnp.array([1.0, -2.0])}
DECAYS = {"m": 0.2, "v": 0.7}
THETA = {"log_decay": {"matrix": np.log(0.2), "vector": np.log(0.7)}}


def test_the_penalty_is_half_the_decayed_squares():
    expected = 0.5 * (0.2 * (0.25 + 0.09 + 1.44 + 0.01) + 0.7 * (1 + 4 + 9))
    close(decay_rule().penalty(THETA, PARAMS | {"s": 3.0}), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("baseline", "plain"),
    [("sgdm", optax.sgd(0.1, momentum=0.9)), ("adam", optax.adam(0.1))],
)
def test_the_rule_is_its_baseline_on_decayed_gradients(baseline, plain):
    tx = decay_rule(baseline=baseline).bind(THETA)
    ours = theirs = PARAMS
    states = tx.init(ours), plain.init(theirs)
    for _ in range(4):
        updates, state = tx.update(jax.tree.map(jnp.cos, ours), states[0], ours)
        grads = jax.tree.map(lambda x, d: jnp.cos(x) + d * x, theirs, DECAYS)
        expected, other = plain.update(grads, states[1], theirs)
        ours = optax.apply_updates(ours, updates)
        theirs = optax.apply_updates(theirs, expected)
        states = state, other
    close(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize(("baseline", "rate"), [("sgdm", 0.1), ("adam", 0.01)])
def test_every_baseline_ends_at_the_same_minimum(baseline, rate):
    tx = decay_rule(baseline=baseline, learning_rate=rate).bind(THETA)

    def step(carry, _):
        x, state = carry
        grads = jax.tree.map(lambda x: 2 * (x - 1), x)
        updates, state = tx.update(grads, state, x)
        return (optax.apply_updates(x, updates), state), None

    run = jax.jit(lambda carry: jax.lax.scan(step, carry, length=3000)[0])
    x, _ = run((PARAMS, tx.init(PARAMS)))
    minimum = {k: jnp.full_like(p, 2 / (2 + DECAYS[k])) for k, p in PARAMS.items()}
    close(x, minimum, rtol=1e-5)


def test_an_artifact_of_it_loads_and_decays(tmp_path):
    args = dict(baseline="sgdm", learning_rate=0.1, initial=0.3)
    with jax.enable_x64(False):
        theta = jax.tree.map(jnp.float32, THETA)
        artifact.save(
            tmp_path / "a", rule="weight_decay", rule_args=args, theta=theta, card={}
        )
        assert lopt.verify(tmp_path / "a") < 1e-6
        tx = lopt.load(tmp_path / "a")
        params = jax.tree.map(jnp.float32, PARAMS)
        zeros = jax.tree.map(jnp.zeros_like, params)
        updates, _ = tx.update(zeros, tx.init(params), params)
    close(updates, {k: -0.1 * DECAYS[k] * p for k, p in PARAMS.items()}, rtol=1e-6)


def test_only_rules_with_a_penalty_are_named_as_such():
    assert decay_rule().penalty and rules.PENALISED == ("weight_decay",)
    assert rules.LearnedOptimizer(None, None).penalty is None


def test_rules_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="unknown baseline 'adamw'; known: sgdm, adam"):
        decay_rule(baseline="adamw")
    for name in ("learning_rate", "initial"):
        with pytest.raises(ValueError, match=f"must be positive.*{name}=0.0"):
            decay_rule(**{name: 0.0})
    tx = decay_rule().bind(THETA)
    with pytest.raises(ValueError, match=r"call update\(..., params\)"):
        tx.update(PARAMS, tx.init(PARAMS))
