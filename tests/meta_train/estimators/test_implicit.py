"""Implicit meta-gradients against closed forms, re-solved problems and long runs."""

import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from measured import close
from places import ROOT
from tiny_rule import decay_rule

import lopt
import meta_train.build
from evaluation.runs import curves
from meta_train import estimators
from meta_train.artifacts import starting as thetas
from meta_train.artifacts.export import export
from meta_train.estimators.base import worker_keys
from meta_train.estimators.implicit import Solver, hypergradient
from meta_train.loop import loop

KEY = jax.random.key(3)
CONFIG = ROOT / "configs" / "implicit.py"
PARAMS = {"m": jnp.array([[0.5, -0.3], [1.2, 0.1]]), "v": jnp.array([1.0, -2.0])}


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def settings(**changes):
    """Returns the settings of a solver, as in a config."""
    return dict(name="cg", steps=50, step_size=None, damping=0.0) | changes


def solver(**changes):
    return Solver(**settings(**changes))


def solved_for(inner, outer, theta, params, **changes):
    """Returns the hypergradient, by a solver with changes."""
    found = lambda *at: hypergradient(inner, outer, *at, solver=solver(**changes))  # noqa: E731
    return jax.jit(found)(theta, params)


# hypergradient


NUMBERS = np.random.default_rng(0)
INPUTS, LABELS = NUMBERS.normal(size=(2, 8, 4)), NUMBERS.normal(size=(2, 8))
LOG_DECAY = -1.0
HESSIAN = INPUTS[0].T @ INPUTS[0] / 8 + np.exp(LOG_DECAY) * np.eye(4)
OPTIMUM = np.linalg.solve(HESSIAN, INPUTS[0].T @ LABELS[0] / 8)
SLOPE = INPUTS[1].T @ (INPUTS[1] @ OPTIMUM - LABELS[1]) / 8  # dL/dx
PULL = np.exp(LOG_DECAY) * OPTIMUM  # d^2 l / (dx dtheta)


def of_ridge_regression(**changes):
    """Returns the hypergradient, theta being the logarithm of the decay."""

    def loss(params, which):
        x = jnp.append(params["w"].ravel(), params["b"])
        return 0.5 * jnp.mean(jnp.square(INPUTS[which] @ x - LABELS[which]))

    def inner(theta, params):
        squares = sum(jnp.sum(x**2) for x in jax.tree.leaves(params))
        return loss(params, 0) + 0.5 * jnp.exp(theta) * squares

    outer = lambda theta, params: loss(params, 1)  # noqa: E731
    x = jnp.asarray(OPTIMUM)
    params = {"w": x[:3].reshape(3, 1), "b": x[3]}
    return solved_for(inner, outer, jnp.asarray(LOG_DECAY), params, **changes)


def test_cg_finds_the_derivative_of_ridge_regression_by_its_decay():
    # x = A^-1 y, dA/dtheta = lambda I, so dx/dtheta = -A^-1 (lambda x).
    expected = -SLOPE @ np.linalg.solve(HESSIAN, PULL)
    close(of_ridge_regression(steps=4), expected, rtol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 7, 40])
def test_neumann_falls_short_by_the_power_of_its_remainder(steps):
    rest = np.linalg.matrix_power(np.eye(4) - 0.3 * HESSIAN, steps)
    solution = np.linalg.solve(HESSIAN, SLOPE)
    found = of_ridge_regression(name="neumann", steps=steps, step_size=0.3)
    close(found, -PULL @ (solution - rest @ solution), rtol=1e-9)


@pytest.mark.parametrize("damping", [0.0, 0.1, 3.0])
@pytest.mark.parametrize(
    "method", [dict(steps=9), dict(name="neumann", steps=2000, step_size=0.2)]
)
def test_damping_weakens_flat_directions_most(method, damping):
    curvature, slope = jnp.array([0.01, 1.0, 5.0]), jnp.array([1.0, -2.0, 0.5])
    inner = lambda theta, x: 0.5 * jnp.sum(curvature * (x - theta) ** 2)  # noqa: E731
    theta = jnp.array([0.3, -1.0, 2.0])
    outer = lambda theta, x: slope @ x  # noqa: E731
    found = solved_for(inner, outer, theta, theta, **method, damping=damping)
    exact = slope * curvature / (curvature + damping)
    if method.get("name") == "neumann":
        exact *= 1 - (1 - 0.2 * (curvature + damping)) ** 2000
    close(found, exact, rtol=1e-9)


def solved(inner, theta, size):
    """Returns the minimum of an inner objective of x [size], by Newton's method."""
    slope, hessian = (f(inner, argnums=1) for f in (jax.grad, jax.hessian))

    def step(_, x):
        return x - jnp.linalg.solve(hessian(theta, x), slope(theta, x))

    return jax.lax.fori_loop(0, 20, step, jnp.zeros(size))


def differences(inner, outer, theta, size, step=1e-5):
    """Returns dL/dtheta by central differences of problems solved anew."""
    flat, tree = jax.flatten_util.ravel_pytree(theta)
    outcome = jax.jit(lambda t: outer(tree(t), solved(inner, tree(t), size)))
    moves = step * jnp.eye(flat.size)
    found = [(outcome(flat + m) - outcome(flat - m)) / (2 * step) for m in moves]
    return tree(jnp.stack(found))


POINTS = np.random.default_rng(1).normal(size=(2, 6, 3))
SIGNS = np.sign(POINTS.sum(-1) + np.array([0.5, -3, 0, 1, -1, 2]))  # some are odd


def logistic(x, which):
    """Returns the loss of each of 6 points."""
    return jax.nn.softplus(-SIGNS[which] * (POINTS[which] @ x))


def weighted_points(theta, x):
    return jax.nn.softmax(theta) @ logistic(x, 0) + 0.05 * jnp.sum(x**2)


def weighted_losses(theta, x):
    goal = jnp.array([1.0, -1.0, 0.5])
    one, other = jnp.mean(logistic(x, 0)), jnp.sum(jnp.square(x - goal))
    return jnp.exp(theta["log_weight"]) * one + theta["weight"] ** 2 * other


def with_a_share_of_theta(theta, x):
    """Returns an outer objective on which theta acts directly, too."""
    direct = sum(jnp.sum(jnp.sin(t)) for t in jax.tree.leaves(theta))
    return jnp.mean(logistic(x, 1)) + 0.1 * direct


@pytest.mark.parametrize(
    ("inner", "theta"),
    [
        (weighted_points, jnp.linspace(-1, 1, 6)),
        (weighted_losses, {"log_weight": jnp.array(0.2), "weight": jnp.array(0.4)}),
    ],
)
def test_weights_of_points_and_losses_agree_with_problems_solved_anew(inner, theta):
    outer = with_a_share_of_theta
    found = solved_for(inner, outer, theta, solved(inner, theta, 3), steps=9)
    expected = differences(inner, outer, theta, 3)
    close(found, expected, rtol=1e-6)
    assert min(jnp.min(jnp.abs(x)) for x in jax.tree.leaves(found)) > 1e-3


def test_a_hessian_of_ten_thousand_million_entries_is_never_formed():
    size, theta = 100_000, jnp.array(0.5)
    inner = lambda theta, x: 0.5 * jnp.sum((x - theta) ** 2)  # noqa: E731
    outer = lambda theta, x: jnp.mean(jnp.sin(x))  # noqa: E731
    found = solved_for(inner, outer, theta, jnp.full(size, theta), steps=3)
    close(found, jnp.cos(theta), rtol=1e-9)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 1e-5)])
def test_cg_stays_finite_with_nothing_left_to_solve(dtype, rtol):
    curvature = jnp.geomspace(1e-3, 1e-2, 30, dtype=dtype)
    inner = lambda theta, x: 0.5 * jnp.sum(curvature * (x - theta) ** 2)  # noqa: E731
    zeros = jnp.zeros(30, dtype)
    for scale in (0.0, 1.0):
        outer = lambda theta, x, scale=scale: jnp.sum(scale * x + theta)  # noqa: E731
        found = solved_for(inner, outer, zeros, zeros, steps=1000)
        close(found, jnp.full(30, 1 + scale), rtol)


# The estimator


def implicit(inner, *, num_workers=1, **changes):
    return estimators.build(
        "implicit", inner=inner, num_workers=num_workers, solver=settings(**changes)
    )


def estimated(estimator, theta):
    """Returns the first state, the first estimate, and the state after it."""
    state = estimator.init(theta, {}, KEY)
    return state, *jax.jit(estimator.estimate)(theta, state, {}, KEY)


@pytest.mark.parametrize("start", [[1.0, -2.0], [[1.0], [-2.0]]])
def test_a_converged_run_has_the_gradient_of_the_whole_run(start):
    curvature = jnp.array([1.0, 4.0]).reshape(np.shape(start))
    family = toys.family_of(
        lambda x, batch: 0.5 * jnp.sum(curvature * (x - 1) ** 2), start
    )
    rule = decay_rule()
    theta, steps = rule.init(KEY), 700
    inner = toys.inner(rule, family, window=steps, horizon=steps, reduce="last")
    _, found, _ = estimated(implicit(inner), theta)
    unrolled = estimators.build("full", inner=inner, num_workers=1, clip=None)
    _, expected, _ = estimated(unrolled, theta)
    close(found.grad, expected.grad, rtol=1e-9)
    close(found.metrics["objective"], expected.metrics["objective"], rtol=1e-12)
    # Of x = c / (c + d) the loss is c d^2 / 2 (c + d)^2.
    own = "vector" if len(np.shape(start)) == 1 else "matrix"
    closed = sum(c**2 * 0.3**2 / (c + 0.3) ** 3 for c in (1, 4))
    close(found.grad["log_decay"][own], closed, rtol=1e-9)


def test_an_estimate_is_the_hypergradient_where_the_window_led():
    rule, family = decay_rule(), toys.classifier()
    theta, task = rule.init(KEY), family.task(())
    inner = toys.inner(rule, family, window=4, horizon=9, valid_weight=1.0)
    state, found, after = estimated(implicit(inner, damping=0.1), theta)
    window_key, objective_key, _ = jax.random.split(worker_keys(KEY, 1)[0], 3)
    worker = jax.tree.map(lambda x: x[0], state)
    run = jax.jit(lambda worker: inner.unroll(theta, worker, {}, window_key, 4))
    there, _ = run(worker)

    def loss(params, key, split):
        batch_key, loss_key = jax.random.split(key)
        return task.loss(params, loss_key, task.batch({}, batch_key, split))[0]

    keys = jax.random.split(objective_key)
    inner_loss = lambda t, p: loss(p, keys[0], "train") + rule.penalty(t, p)  # noqa: E731
    outer_loss = lambda t, p: loss(p, keys[1], "outer_valid")  # noqa: E731
    expected = solved_for(inner_loss, outer_loss, theta, there.params, damping=0.1)
    close(found.grad, expected, rtol=1e-12)
    close(after.params["w"][0], there.params["w"])
    close(found.metrics["objective"], loss(there.params, keys[1], "outer_valid"))


def test_a_diverged_worker_is_masked_and_restarts():
    family = toys.family_of(lambda x, batch: jnp.sum(jnp.log(x + batch)), [1.0], 1.0)
    rule = decay_rule()
    inner = toys.inner(rule, family, window=3, horizon=30)
    estimator = implicit(inner, num_workers=64, damping=9.0)
    _, found, after = estimated(estimator, rule.init(KEY))
    assert 0 < found.metrics["diverged"] < 64
    assert found.metrics["diverged"] + found.metrics["valid"] == 64
    assert bool(jnp.isfinite(found.loss)) and not found.metrics["restarts"]
    assert bool(jnp.isfinite(found.grad["log_decay"]["vector"]))
    assert bool(jnp.isfinite(after.params["x"]).all())
    assert (after.step == 0).sum() == found.metrics["diverged"]


def test_runs_end_with_the_window_in_which_they_reach_their_horizon():
    rule = decay_rule()
    inner = toys.inner(rule, toys.quadratic(), window=3, horizon=5, stagger=True)
    state, found, after = estimated(implicit(inner, num_workers=64), rule.init(KEY))
    ended = state.step >= 2
    np.testing.assert_array_equal(after.step, jnp.where(ended, 0, state.step + 3))
    close(after.params["x"][ended], jnp.tile(jnp.array([1.0, -2.0]), (ended.sum(), 1)))
    assert found.metrics["restarts"] == ended.sum() and 0 < ended.sum() < 64


def test_a_frozen_decay_has_no_gradient_and_leaves_the_other_as_it_was():
    grads, penalties = [], []
    for frozen in ((), ("log_decay/vector",)):
        rule = thetas.frozen(decay_rule(), frozen, KEY)
        inner = toys.inner(rule, toys.classifier(), window=3, horizon=9)
        theta = rule.init(KEY)
        grads.append(estimated(implicit(inner), theta)[1].grad["log_decay"])
        penalties.append(rule.penalty(theta, PARAMS))
    whole, part = grads
    assert part["vector"] is None and part["matrix"] == whole["matrix"] != 0
    assert penalties[0] == penalties[1]


# Errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(name="gc"), "unknown solver 'gc'; known: cg, neumann. .* 'cg'"),
        (dict(steps=0), "steps >= 1"),
        (dict(damping=-0.1), "damping >= 0, got 50 and -0.1"),
        (dict(name="neumann"), "neumann needs step_size > 0, got None"),
        (dict(name="neumann", step_size=0.0), "neumann needs step_size > 0, got 0.0"),
        (dict(step_size=0.1), "cg takes no step_size, got 0.1"),
        (dict(rho=0.1), "args.solver has no key 'rho'"),
    ],
)
def test_solvers_that_cannot_be_are_refused(changes, message):
    inner = toys.inner(decay_rule(), toys.quadratic(), window=1, horizon=1)
    with pytest.raises(ValueError, match=message):
        implicit(inner, **changes)


def test_a_rule_without_penalty_is_refused_and_others_named():
    inner = toys.inner(toys.heavy_ball(), toys.quadratic(), window=1, horizon=1)
    with pytest.raises(ValueError, match="those are: weight_decay"):
        implicit(inner)


# The config


def config(variant):
    return runpy.run_path(str(CONFIG))["get_config"](variant)


def trained(config, workdir):
    """Returns the artifact of a run."""
    with jax.enable_x64(False):
        run = meta_train.build.build(config)
        return lopt.read(export(run, loop(run, workdir), workdir / "artifact")), run


def test_its_config_ends_in_an_artifact(tmp_path):
    c = config("quick")
    c.validation.every = 0  # half the time
    found, _ = trained(c, tmp_path)
    assert abs(found.theta["log_decay"]["matrix"] - np.log(1e-4)) > 1e-3


def test_its_unknown_variant_names_the_known():
    match = "unknown variant='quik'; join by commas `quick`"
    with pytest.raises(ValueError, match=match):
        config("quik")


@pytest.mark.slow
def test_the_learned_decay_is_as_good_as_the_best_of_a_grid(tmp_path):
    found, run = trained(config(""), tmp_path)
    learned = {k: float(x) for k, x in found.theta["log_decay"].items()}
    grid = [dict.fromkeys(learned, x) for x in np.log(10) * np.arange(-4, 0.1, 0.5)]

    def tx(*, num_steps, **log_decay):
        return found.rule.bind({"log_decay": log_decay}, num_steps=num_steps)

    with jax.enable_x64(False):
        (family,) = run.families.values()
        losses = (
            curves.curves(
                family,
                tx,
                num_steps=800,
                seeds=range(5_000, 5_032),
                hyperparameters=[learned, *grid],
                valid_every=200,
            )
            .valid[:, :, -1]
            .mean(1)
        )
    assert losses[0] < losses[1:].min() and losses[0] < 0.6 * losses[1]
