"""Baselines, step by step against Optax where it is right, and else their papers."""

import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import twins

from lopt import mup
from lopt.baselines import BASELINES
from lopt.baselines.spaces import Range, point
from lopt.schedules import SCHEDULES

# A matrix, a vector and a convolution's kernel; of the first and last two axes grow.
PARAMS = {
    "w": np.array([[1.0, -2.0], [0.5, 3.0]]),
    "b": np.array([0.3, -0.1]),
    "kernel": np.cos(np.arange(24.0)).reshape(2, 2, 2, 3),
}
BASE = {"w": np.zeros((1, 1)), "b": np.zeros(1), "kernel": np.zeros((2, 2, 1, 1))}
INFO = mup.infer(PARAMS, BASE)
PEAK, STEPS, WARMUP = 0.03, 20, 0.25
every = pytest.mark.parametrize("name", BASELINES)


def gradient(params):
    """Returns that of |w b - 1|^2 + sum b^4 + sum c (kernel - sin)^2 / 2, by hand."""
    w, b, kernel = params["w"], params["b"], params["kernel"]
    rest = w @ b - np.ones(2, np.float32)
    target = np.sin(np.arange(24.0, dtype=np.float32)).reshape(2, 2, 2, 3)
    curvature = np.linspace(0.5, 2, 3, dtype=np.float32).reshape(1, 1, 1, 3)
    return {
        "w": 2 * rest[:, None] * b[None],
        "b": 2 * (w.T @ rest) + 4 * b**3,
        "kernel": curvature * (kernel - target),
    }


def rate(count, num_steps=STEPS):
    """Returns cosine annealing after a linear warm-up over a quarter of the run."""
    done = jnp.asarray(count) / num_steps
    ramp = jnp.minimum(1, (jnp.asarray(count) + 1) / (WARMUP * num_steps))
    return PEAK * ramp * (1 + jnp.cos(jnp.pi * done)) / 2


def run(tx, num_steps=STEPS, shown=lambda state, params: params, **extra):
    """Returns what is shown of state and parameters after each step."""

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(gradient(params), state, params, **extra)
        params = optax.apply_updates(params, updates)
        return (params, state), shown(state, params)

    params = jax.tree.map(jnp.asarray, PARAMS)  # float64 where that is enabled
    return jax.jit(lambda c: jax.lax.scan(step, c, length=num_steps)[1])(
        (params, tx.init(params))
    )


def built(name, num_steps=STEPS, **changed):
    own = dict(learning_rate=PEAK, schedule="cosine", warmup=WARMUP, info=INFO)
    return BASELINES[name].build(num_steps=num_steps, **own | changed)


@functools.cache
def path(name):
    return run(built(name))


def close(found, expected, rtol):
    near = functools.partial(np.testing.assert_allclose, rtol=rtol, atol=1e-6)
    jax.tree.map(near, found, expected)


def scaled(tx, **factors):
    """Returns `tx` whose updates of each leaf are multiplied."""
    by = optax.stateless(lambda u, _: {k: factors[k] * u[k] for k in u})
    return optax.chain(tx, by)


# Hyperparameters that are not the defaults.
SGD, ADAM = dict(momentum=0.8), dict(b1=0.8, b2=0.99, eps=1e-4)
ADAMW = ADAM | dict(weight_decay=0.1)
OWN = {
    "sgdm": SGD,
    "nesterov": SGD,
    "adam": ADAM,
    "adamw": ADAMW,
    "nadamw": ADAMW,
    "amsgrad": ADAM,
    "adafactor": dict(momentum=0.5, decay=0.7, weight_decay=0.1),
    "lamb": ADAMW,
    "lion": dict(b1=0.8, b2=0.95, weight_decay=0.5),
    "muon": ADAMW | dict(momentum=0.8, adam_share=0.5),
    "schedule_free_adamw": ADAMW,
    "prodigy": ADAMW | dict(initial=1e-4),
    "muadam": ADAM,
    "musgd": SGD,
}
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


HALF = functools.partial(twins.Half, **ADAMW)
MUON = functools.partial(twins.Muon, momentum=0.8, weight_decay=0.1, eps=1e-4)
# name -> the twins that step the leaves, each by itself
LEAVES = {
    "amsgrad": dict.fromkeys(PARAMS, functools.partial(twins.AmsGrad, **ADAM)),
    "lamb": dict.fromkeys(PARAMS, functools.partial(twins.Lamb, **ADAMW)),
    "muon": {"w": MUON, "b": HALF, "kernel": MUON},
    "schedule_free_adamw": dict.fromkeys(
        PARAMS, functools.partial(twins.ScheduleFree, **ADAMW)
    ),
}


def by_twins(name, num_steps):
    """Returns twins after their last step, and the parameters after each."""
    steppers = {k: LEAVES[name][k](x) for k, x in PARAMS.items()}
    params, found = PARAMS, []
    for count in range(num_steps):
        grads, now = gradient(params), float(rate(count, num_steps))
        params = {k: steppers[k].step(grads[k], x, now) for k, x in params.items()}
        found.append(params)
    return steppers, jax.tree.map(lambda *x: np.stack(x), *found)


@pytest.mark.parametrize("name", LEAVES)
def test_baselines_equal_their_papers_step_by_step(name):
    with jax.enable_x64():
        found = run(built(name, 100, **OWN[name]), 100)
        close(found, by_twins(name, 100)[1], 1e-6)


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


def test_every_baseline_is_compared_with_something():
    assert {*PLAIN, *LEAVES, "prodigy"} == BASELINES.keys()


def test_schedule_free_is_judged_at_the_average_of_the_paper():
    shown = BASELINES["schedule_free_adamw"].eval_params
    with jax.enable_x64():
        tx = built("schedule_free_adamw", 100, **ADAMW)
        found = run(tx, 100, shown)
        steppers, _ = by_twins("schedule_free_adamw", 100)
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


def test_only_schedule_free_is_judged_elsewhere():
    judged = {name for name, row in BASELINES.items() if row.eval_params}
    assert judged == {"schedule_free_adamw"}


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


@every
def test_state_and_parameters_may_both_be_donated(name):
    params = jax.tree.map(jnp.float32, PARAMS)
    tx = built(name)
    step = jax.jit(tx.update, donate_argnums=(1, 2))
    updates, _ = step(gradient(PARAMS), tx.init(params), params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)


@every
def test_junk_extra_arguments_change_nothing(name):
    with_junk = run(built(name), value=jnp.float32(1.0), junk=0)
    jax.tree.map(np.testing.assert_array_equal, with_junk, path(name))


@every
def test_hyperparameters_and_length_may_be_traced(name):
    space = BASELINES[name].space
    points = [point(space, [u] * len(space)) for u in (0.3, 0.6)]
    numbers = [
        {k: list(SCHEDULES).index(v) if k == "schedule" else v for k, v in p.items()}
        for p in points
    ]
    traced = jax.tree.map(lambda *x: jnp.stack(x), *jax.tree.map(jnp.asarray, numbers))

    def trial(num_steps, own):
        return run(BASELINES[name].build(num_steps=num_steps, info=INFO, **own), 5)

    found = jax.jit(jax.vmap(trial, in_axes=(None, 0)))(jnp.int32(20), traced)
    for i, own in enumerate(points):
        close(jax.tree.map(lambda x, i=i: x[i], found), trial(20, own), 1e-4)


@every
def test_spaces_are_of_arguments_and_hold_the_defaults(name):
    _, space, defaults, *_ = BASELINES[name]
    arguments = inspect.signature(BASELINES[name].build).parameters
    assert space.keys() == defaults.keys() <= arguments.keys()
    assert "learning_rate" in space and "warmup" in space
    for key, values in space.items():
        if isinstance(values, Range):
            assert values.low <= defaults[key] <= values.high
        else:
            assert defaults[key] in values
    for key in space.keys() - {"learning_rate", "schedule", "warmup"}:
        assert arguments[key].default == defaults[key]


@every
def test_rates_span_decades_and_every_schedule_is_tried(name):
    space = BASELINES[name].space
    assert space["learning_rate"].high / space["learning_rate"].low >= 100
    has_none = name == "schedule_free_adamw"
    assert space.get("schedule") == (None if has_none else tuple(SCHEDULES))


@every
def test_builders_say_what_they_take(name):
    arguments = inspect.signature(BASELINES[name].build).parameters
    common = ["num_steps", "info", "learning_rate", "schedule", "warmup"]
    assert list(itertools.islice(arguments, 5)) == common
    assert {p.kind for p in arguments.values()} == {inspect.Parameter.KEYWORD_ONLY}
    with pytest.raises(TypeError, match="'nonsense'"):
        built(name, nonsense=1.0)


@every
def test_low_precision_parameters_keep_their_type(name):
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.bfloat16), PARAMS)
    tx = built(name, learning_rate=jnp.float32(0.03))
    updates, state = tx.update(params, tx.init(params), params)
    assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}
    assert {x.dtype.name for x in jax.tree.leaves(state)} <= {"float32", "int32"}


@pytest.mark.parametrize("name", ["muadam", "musgd", "muon"])
def test_without_widths_what_needs_them_is_an_error(name):
    with pytest.raises(ValueError, match=f"{name} needs info=mup.infer"):
        BASELINES[name].build(num_steps=1, learning_rate=0.1)
