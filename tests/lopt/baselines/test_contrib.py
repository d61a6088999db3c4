"""Baselines of optax.contrib against their papers, and where that alone would fail."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import twins
from baseline_run import (
    ADAMW,
    OWN,
    PARAMS,
    PEAK,
    built,
    by_twins,
    close,
    gradient,
    rate,
    run,
)

from lopt import mup
from lopt.baselines import BASELINES, contrib

HALF = functools.partial(twins.Half, **ADAMW)
MUON = functools.partial(twins.Muon, momentum=0.8, weight_decay=0.1, eps=1e-4)

# name -> the twins that step the leaves, each by itself
LEAVES = {
    "muon": {"w": MUON, "b": HALF, "kernel": MUON},
    "schedule_free_adamw": dict.fromkeys(
        PARAMS, functools.partial(twins.ScheduleFree, **ADAMW)
    ),
}


@pytest.mark.parametrize("name", LEAVES)
def test_baselines_equal_their_papers_step_by_step(name):
    with jax.enable_x64():
        found = run(built(name, 100, **OWN[name]), 100)
        close(found, by_twins(LEAVES[name], 100)[1], 1e-6)


def test_prodigy_equals_its_paper_step_by_step():
    with jax.enable_x64():
        x, unravel = jax.flatten_util.ravel_pytree(PARAMS)
        x, expected = np.array(x), []
        twin = twins.Prodigy(x, **OWN["prodigy"])
        for count in range(100):
            grads, _ = jax.flatten_util.ravel_pytree(gradient(unravel(x)))
            x = twin.step(np.array(grads), x, float(rate(count, 100)) / PEAK)
            expected.append(unravel(x))
        found = run(built("prodigy", 100, learning_rate=1.0, **OWN["prodigy"]), 100)
        close(found, jax.tree.map(lambda *x: np.stack(x), *expected), 1e-6)
    assert twin.d > 100 * OWN["prodigy"]["initial"]


def test_schedule_free_is_judged_at_the_average_of_the_paper():
    shown = BASELINES["schedule_free_adamw"].eval_params
    with jax.enable_x64():
        tx = built("schedule_free_adamw", 100, **ADAMW)
        found = run(tx, 100, shown)
        steppers, _ = by_twins(LEAVES["schedule_free_adamw"], 100)
    last = jax.tree.map(lambda leaf: leaf[-1], found)
    close(last, {k: twin.x for k, twin in steppers.items()}, 1e-6)


def test_parameters_to_judge_keep_their_type_under_vmap():
    baseline = BASELINES["schedule_free_adamw"]
    params = {"w": jnp.array([[1.0, 2.0], [3.0, 4.0]], jnp.bfloat16)}
    grads = {"w": jnp.ones(2, jnp.bfloat16)}

    @jax.jit
    @jax.vmap
    def judged(b1, params):
        tx = baseline.build(num_steps=9, learning_rate=0.5, b1=b1, weight_decay=0.0)
        state = tx.init(params)
        for _ in range(2):
            updates, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        return baseline.eval_params(state, params)

    average = judged(jnp.array([0.5, 0.9]), params)["w"]
    # Gradients of 1 move z to -.5, then to -1; the average of the two is x.
    assert average.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(average), params["w"] - 0.75, atol=0.02)


def test_muon_orthogonalises_hidden_leaves_and_no_others():
    tx = built("muon", schedule="constant", warmup=0.0, weight_decay=0.0)
    params = jax.tree.map(jnp.float32, PARAMS)
    grads = jax.tree.map(jnp.cos, params)
    updates, _ = tx.update(grads, tx.init(params), params)
    for name, fans in {"w": (2, 2), "kernel": (8, 3)}.items():
        sizes = np.linalg.svd(updates[name].reshape(fans), compute_uv=False)
        assert np.all(np.abs(sizes / (PEAK * 0.2 * max(fans) ** 0.5) - 1) < 0.35)
    close(updates["b"], -PEAK * jnp.sign(grads["b"]), 1e-5)


def test_muon_of_a_network_without_hidden_leaves_is_adamw():
    info = mup.infer(PARAMS, PARAMS)
    found = run(built("muon", info=info, adam_share=0.5))
    adamw = run(built("adamw", learning_rate=PEAK / 2, b2=0.95, weight_decay=0.1))
    close(found, adamw, 1e-6)


def test_prodigy_waits_for_a_gradient_and_passes_nans_on():
    tx, params = built("prodigy"), {"x": jnp.ones(2), "still": jnp.ones(3)}
    grads = {"x": jnp.array([1.0, -1.0]), "still": jnp.zeros(3)}
    none = jax.tree.map(jnp.zeros_like, grads)
    updates, state = tx.update(none, tx.init(params), params)
    assert not any(np.any(u) for u in updates.values())
    for _ in range(3):
        updates, state = tx.update(grads, state, params)
        assert np.all(np.sign(updates["x"]) == [-1, 1]) and not np.any(updates["still"])
    bad, _ = tx.update({**grads, "x": jnp.full(2, jnp.nan)}, state, params)
    assert np.all(np.isnan(bad["x"]))


def test_every_baseline_of_the_file_is_compared_with_something():
    builders = {name: x.build.__module__ for name, x in BASELINES.items()}
    there = {name for name, file in builders.items() if file == contrib.__name__}
    assert there == {*LEAVES, "prodigy"}
