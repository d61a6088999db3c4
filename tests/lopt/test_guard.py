"""The guard: a rule's own updates without trouble, Adam's of its averages with it."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_rule import ARGS, descending, save

import lopt
from lopt import artifact, guard, mup, rules

RATE = 0.01
RULE = rules.build("mlp", **ARGS)
THETA = descending(RULE)
PARAMS = {"matrix": jnp.linspace(-1, 1, 12).reshape(3, 4), "vector": jnp.ones(4)}
STEPS = 40
UNSEEN = pytest.mark.filterwarnings("ignore:a guard without the loss")
NOISE = np.random.default_rng(0)
GRADS = {k: NOISE.normal(0.3, 1, (STEPS, *v.shape)) for k, v in PARAMS.items()}
GRADS = jax.tree.map(jnp.float32, GRADS)
CALM = jnp.float32(1 + 0.1 * NOISE.normal(size=STEPS))
SHAPES = jax.tree.map(lambda x: np.zeros(2 * np.array(x.shape)), PARAMS)
INFO = mup.infer(SHAPES, PARAMS)  # halves updates of the matrix


def plain(theta):
    return RULE.bind(theta, num_steps=100)


def guarded(theta, **options):
    options = dict(learning_rate=RATE) | options
    return guard.guarded(plain(theta), its_adam(theta), **options)


def its_adam(theta):
    return functools.partial(RULE.adam, theta)


def adam(_, rate=RATE):
    tx = optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(rate))
    return optax.with_extra_args_support(tx)


@functools.partial(jax.jit, static_argnames="make")
def trace(make, grads=GRADS, *, values=CALM, theta=THETA):
    """Returns updates and state after each step, parameters standing still."""
    tx = make(theta)

    def step(state, now):
        updates, state = tx.update(now[0], state, PARAMS, value=now[1])
        return state, (updates, state)

    return jax.lax.scan(step, tx.init(PARAMS), (grads, values))[1]


@jax.jit
def watch(values):
    """Returns the state after each of many losses, of a single parameter."""
    tx = guarded(THETA)

    def step(state, value):
        _, state = tx.update(jnp.ones(1), state, jnp.ones(1), value=value)
        return state, state._replace(inner=None)

    return jax.lax.scan(step, tx.init(jnp.ones(1)), values)[1]


def noisy(seed=0, level=1.0):
    noise = np.random.default_rng(seed).normal(size=1000)
    return jnp.float32(level * (1 + 0.1 * noise))


def at(tree, step):
    return jax.tree.map(lambda x: x[step], tree)


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def close(found, expected, rtol=1e-5):
    same_to = functools.partial(np.testing.assert_allclose, rtol=rtol, atol=2e-7)
    jax.tree.map(same_to, found, expected)


# Without trouble.


def test_without_trouble_updates_are_the_rules_own_to_the_last_bit():
    # Op by op, for programs may round differently.
    ours, theirs, params = guarded(THETA), plain(THETA), PARAMS["vector"]
    state, inner = ours.init(params), theirs.init(params)
    for grads, value in zip(GRADS["vector"][:2], CALM, strict=False):
        found, state = ours.update(grads, state, params, value=value)
        expected, inner = theirs.update(grads, inner, params)
        same((found, state.inner[0]), (expected, inner))


@UNSEEN
@pytest.mark.parametrize("values", [CALM, None, CALM[::-1] - 5])
def test_without_trouble_nothing_counts(values):
    updates, state = trace(guarded, values=values)
    close((updates, state.inner[0]), trace(plain))
    assert not np.any([state.caution, state.spikes, state.failures])


# Losses that spike.

SPIKES = [
    (0, jnp.nan),
    (0, jnp.inf),
    (1, 10.0),
    (19, 10.0),
    (25, 10.0),
    (30, jnp.nan),
    (39, -jnp.inf),
]


@pytest.mark.parametrize(("step", "loss"), SPIKES)
def test_update_of_a_spike_is_adams(step, loss):
    updates, state = trace(guarded, values=CALM.at[step].set(loss))
    close(at(updates, step), at(trace(adam)[0], step))
    assert state.spikes.tolist() == [0] * step + [1] * (STEPS - step)
    assert not np.any(state.failures)


def test_after_a_spike_the_rule_returns_as_adam_fades():
    updates, state = trace(guarded, values=CALM.at[25].set(10.0))
    (theirs, _), (ours, _) = trace(adam), trace(plain)
    for step, share in ((24, 0), (26, 0.9), (27, 0.81), (39, 0.9**14)):
        now = zip(*(jax.tree.leaves(at(x, step)) for x in (ours, theirs)), strict=True)
        mix = [(1 - share) * own + share * safe for own, safe in now]
        close(jax.tree.leaves(at(updates, step)), mix)
    np.testing.assert_allclose(state.caution[25:], 0.9 ** np.arange(1, 16), rtol=1e-5)


@pytest.mark.parametrize("first", [1e-6, 1.0, -3.0])
@pytest.mark.parametrize(("step", "share", "spikes"), [(5, 0.9, 0), (5, 1.1, 1)])
def test_among_the_first_a_spike_is_above_twice_the_first(first, step, share, spikes):
    values = jnp.full(20, first).at[step].add(share * abs(first))
    assert watch(values).spikes.tolist() == [0] * step + [spikes] * (20 - step)


def test_losses_that_vary_from_the_first_on_are_no_spikes():
    around_zero = jnp.float32(np.random.default_rng(0).normal(size=1000))
    assert watch(around_zero).spikes[19] <= 1
    assert watch(jnp.exp(-0.3 * jnp.arange(20))).spikes[-1] == 0


def test_a_guard_without_the_loss_warns_once():
    tx, params = guarded(THETA), jnp.ones(1)
    state = tx.init(params)
    with pytest.warns(UserWarning, match=r"update\(\.\.\., value=loss\)") as caught:
        for _ in range(2):
            _, state = tx.update(params, state, params)
    assert len(caught) == 1
    with warnings.catch_warnings(action="error"):
        guarded(THETA).update(params, state, params, value=1.0)


@pytest.mark.parametrize("level", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noise_is_seldom_a_spike(seed, level):
    assert watch(noisy(seed, level)).spikes[-1] < 10


@pytest.mark.parametrize("level", [1e-6, 1.0, 1e6])
def test_one_loss_ten_times_the_others_is_a_spike(level):
    spikes = watch(noisy(level=level).at[500].multiply(10)).spikes
    before = watch(noisy(level=level)).spikes
    assert (spikes - before).tolist() == [0] * 500 + [1] * 500


def test_huge_spike_does_not_hide_the_next():
    spikes = watch(noisy().at[500].set(1e20).at[502].set(10.0)).spikes
    assert (spikes[499:503] - spikes[499]).tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize("noise", [0.1, 0.0])
@pytest.mark.parametrize(("low", "high"), [(1.0, 10.0), (0.0, 1.0), (-3.0, 1e4)])
def test_plateau_is_a_spike_at_first_and_then_the_average(low, high, noise):
    level = jnp.where(jnp.arange(1000) < 400, low, high)
    spikes = watch(level + noise * (noisy() - 1)).spikes
    assert spikes[402] - spikes[399] == 3
    assert spikes[-1] - spikes[700] <= 3


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("level", [1.0, 3e-5, -7e8])
def test_rounding_is_no_spike_after_equal_losses(dtype, level):
    values = jnp.full(1000, level, dtype)
    one_up = jnp.nextafter(values[500], jnp.full([], jnp.inf, dtype))
    assert not np.any(watch(values.at[500].set(one_up)).spikes)


def test_losses_that_are_not_finite_are_spikes_and_leave_the_averages():
    bad = jnp.array([jnp.nan, jnp.inf, -jnp.inf])
    state = watch(noisy().at[500:503].set(bad).at[600].set(10.0))
    assert state.spikes[502] - state.spikes[499] == 3
    for field in ("mean", "deviation", "seen"):
        assert np.ptp(getattr(state, field)[499:503]) == 0
    assert state.spikes[600] - state.spikes[599] == 1
    assert np.isfinite(state.mean[-1]) and state.seen[-1] == 997


def test_first_losses_are_averaged_alike_and_later_ones_forgotten():
    values, state = np.float64(noisy()), watch(noisy())
    alike = np.cumsum(values[:20]) / np.arange(1, 21)
    np.testing.assert_allclose(state.mean[:20], alike, rtol=1e-5)
    assert state.deviation[0] == 0
    for field, new in (("mean", values[1:]), ("deviation", None)):
        found = np.float64(getattr(state, field))
        new = np.abs(values[1:] - state.mean[:-1]) if new is None else new
        expected = 0.95 * found[:-1] + 0.05 * new
        np.testing.assert_allclose(found[21:], expected[20:], rtol=1e-5)


# Updates that are huge, and updates and gradients that are not finite.


def broken(weight):
    """Returns theta whose network is of one weight, its decays as they were."""
    network = jax.tree.map(lambda x: jnp.full_like(x, weight), THETA["network"])
    return THETA | {"network": network}


@pytest.mark.parametrize("weight", [jnp.nan, jnp.inf, 1e38, 1e9])
def test_updates_of_broken_rules_are_adams(weight):
    updates, state = trace(guarded, theta=broken(weight))
    close(updates, trace(adam)[0])
    assert state.failures.tolist() == list(range(1, STEPS + 1))
    assert not np.any(state.spikes)


@pytest.mark.parametrize(("size", "least"), [(0.0, 1), (0.1, 1), (1.0, 10), (30, 300)])
@pytest.mark.parametrize(("share", "failures"), [(0.99, 0), (1.01, 1)])
def test_huge_updates_are_adams(size, least, share, failures):
    params, grads = {"a": size * jnp.ones(3), "b": 1e6 * jnp.ones(2)}, at(GRADS, 0)
    grads = {"a": grads["vector"][:3], "b": grads["vector"][:2]}
    update = {"a": share * least * jnp.array([0, 0, -1.0]), "b": jnp.zeros(2)}
    last = optax.stateless(lambda updates, _: update)
    given = dict(learning_rate=RATE, then=[last])
    tx = guard.guarded(plain(THETA), its_adam(THETA), **given)
    found, state = tx.update(grads, tx.init(params), params, value=1.0)
    assert state.failures == failures
    signs = jax.tree.map(lambda x: -RATE * jnp.sign(x), grads)
    close(found, signs if failures else update)


@jax.jit
def fallen(theta):
    """Returns a quadratic after 300 guarded steps."""
    tx = guarded(theta)
    loss = lambda x: sum(jnp.sum((leaf - 0.5) ** 2) for leaf in jax.tree.leaves(x))  # noqa: E731

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value)
        return (optax.apply_updates(params, updates), state), None

    carry, _ = jax.lax.scan(step, (PARAMS, tx.init(PARAMS)), length=300)
    return loss(carry[0]) / loss(PARAMS)


@pytest.mark.parametrize("weight", [jnp.nan, jnp.inf, 1e9])
def test_broken_rule_trains_a_quadratic_down(weight):
    assert fallen(broken(weight)) < 1e-3


BAD = [jnp.nan, jnp.inf, -jnp.inf, 1e25]  # the last's square is not finite


def with_bad_step(step, bad):
    """Returns gradients of which one is bad at a step, the others put off by one."""
    put_off = {k: jnp.insert(v, step, 1.0, axis=0)[:STEPS] for k, v in GRADS.items()}
    return put_off | {"vector": put_off["vector"].at[step, 2].set(bad)}


@pytest.mark.parametrize("step", [0, 12])
@pytest.mark.parametrize("bad", BAD)
def test_bad_gradients_move_nothing_and_count(step, bad):
    updates, state = trace(guarded, with_bad_step(step, bad))
    assert not np.any([np.any(x) for x in jax.tree.leaves(at(updates, step))])
    before = guarded(THETA).init(PARAMS).inner if step == 0 else at(state.inner, 11)
    same(at(state.inner, step), before)
    assert state.failures.tolist() == [0] * step + [1] * (STEPS - step)
    assert not np.any(state.spikes)


@pytest.mark.parametrize("step", [0, 12])
def test_training_goes_on_after_bad_gradients_as_if_they_had_not_been(step):
    updates, state = trace(guarded, with_bad_step(step, jnp.nan))
    (ours, inner), (theirs, _) = trace(plain), trace(adam)
    later, earlier = slice(step + 1, None), slice(step, -1)
    close(at(state.inner[0].history, later), at(inner.history, earlier))
    close(at(updates, step + 1), at(theirs, step))
    fade = lambda a, b: 0.1 * a[step + 1] + 0.9 * b[step + 1]  # noqa: E731
    close(at(updates, step + 2), jax.tree.map(fade, ours, theirs))


# Scales and schedules of Adam's steps.


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Returns what makes the saved rule, with muP and a rate of its own."""
    path = save(tmp_path_factory.mktemp("guard") / "tiny")
    kwargs = dict(num_steps=100, mup=INFO, learning_rate=7.0)
    return lambda **guard: lambda _: lopt.load(path, **kwargs, **guard)


def test_loaded_guard_scales_adams_steps_by_schedule_and_mup(load):
    schedule = optax.linear_schedule(0.1, 0.01, 30)
    make = load(guard=schedule)
    found = trace(make, values=jnp.full(STEPS, jnp.nan))[0]
    expected = trace(functools.partial(adam, rate=schedule))[0]
    close(found, expected | {"matrix": 0.5 * expected["matrix"]})
    close(trace(make)[0], trace(load())[0])


# What Optax users rely on.

# Of Adam's first step only signs remain; a loss of NaN asks for it.
FIRST = {k: -RATE * np.sign(v[0]) for k, v in GRADS.items()}


@functools.cache
def first(wrap=lambda tx: tx, dtype="float32"):
    """Returns the first update and state of a wrapped guard, the loss being NaN."""
    tx = wrap(guarded(THETA, scale=mup.scale_updates(mup.infer(PARAMS, PARAMS))))
    grads, params = jax.tree.map(lambda x: x.astype(dtype), (at(GRADS, 0), PARAMS))
    return jax.jit(tx.update)(grads, tx.init(params), params, value=jnp.nan)


def test_masked_leaves_pass():
    mask = {"matrix": False, "vector": True}
    updates, _ = first(lambda tx: optax.masked(tx, mask))
    close(updates, FIRST | {"matrix": GRADS["matrix"][0]})


def test_partition_leaves_the_rest_to_others():
    txs = {"frozen": optax.set_to_zero()}
    labels = {"matrix": "ours", "vector": "frozen"}
    updates, _ = first(lambda tx: optax.partition(txs | {"ours": tx}, labels))
    close(updates, FIRST | {"vector": np.zeros(4)})


@pytest.mark.parametrize("wrap", [optax.apply_if_finite, optax.inject_hyperparams])
def test_wrappers_of_optax_leave_adams_steps(wrap):
    if wrap is optax.apply_if_finite:
        wrapped = lambda tx: wrap(tx, max_consecutive_errors=3)  # noqa: E731
    else:
        make = lambda learning_rate: guarded(THETA, learning_rate=learning_rate)  # noqa: E731
        wrapped = lambda tx: wrap(make)(learning_rate=RATE)  # noqa: E731
    close(first(wrapped)[0], FIRST)


def test_multi_steps_averages_gradients():
    tx = optax.MultiSteps(guarded(THETA), 2)
    state, update = tx.init(PARAMS), jax.jit(tx.update)
    halves = [jax.tree.map(lambda x, s=s: s * x[0], GRADS) for s in (0.5, 1.5)]
    first, state = update(halves[0], state, PARAMS, value=1.0)
    second, state = update(halves[1], state, PARAMS, value=jnp.nan)
    assert not np.any(first["matrix"]) and state.inner_opt_state.spikes == 1
    close(second, FIRST)


def test_bfloat16_parameters_get_adams_steps_rounded():
    updates, _ = first(dtype="bfloat16")
    updates = jax.tree.map(lambda x: x.astype(jnp.float32), updates)
    close(updates, FIRST, rtol=2**-8)


def test_what_follows_the_rule_is_told_the_loss():
    def update(updates, state, params=None, *, value, **extra):
        return jax.tree.map(lambda x: value * x, updates), extra["junk"]

    last = optax.GradientTransformationExtraArgs(lambda _: 0, update)
    given = dict(learning_rate=RATE, then=[last])
    tx = guard.guarded(plain(THETA), its_adam(THETA), **given)
    now = GRADS["vector"][0], tx.init(PARAMS["vector"]), PARAMS["vector"]
    updates, state = tx.update(*now, value=2.0, junk=3)
    close(updates, 2 * trace(plain)[0]["vector"][0])
    assert state.inner[1] == 3


@UNSEEN
@pytest.mark.parametrize("params", [{}, {"empty": jnp.zeros((0, 3))}])
@pytest.mark.parametrize("value", [1.0, jnp.nan, None])
def test_trees_without_numbers_are_sound(params, value):
    tx = guarded(THETA)
    updates, state = tx.update(params, tx.init(params), params, value=value)
    same(updates, params)
    assert state.failures == 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_dtypes_survive_cond_and_scan(dtype):
    tx = guarded(THETA)

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(params, state, params, value=params["vector"][0])
        return (optax.apply_updates(params, updates), state), updates

    def program(flag, params):
        carry = params, tx.init(params)
        carry = jax.lax.cond(flag, lambda c: step(c, None)[0], lambda c: c, carry)
        return jax.lax.scan(step, carry, length=3)[1]

    with jax.enable_x64(dtype == "float64"):
        params = jax.tree.map(lambda x: jnp.asarray(x, dtype), PARAMS)
        updates = jax.eval_shape(program, True, params)
    assert {x.dtype.name for x in jax.tree.leaves(updates)} == {dtype}


VALUES = [1.0, 1, np.float64(1), jnp.float32(1), jnp.bfloat16(1), jnp.int32(1), None]


@UNSEEN
@pytest.mark.parametrize("value", VALUES)
def test_state_keeps_its_types_whatever_the_loss_is(value):
    tx = guarded(THETA)
    before = jax.eval_shape(tx.init, PARAMS)
    update = functools.partial(tx.update, value=value)
    _, after = jax.eval_shape(update, PARAMS, before, PARAMS)
    assert jax.tree.leaves(after) == jax.tree.leaves(before)
    assert not any(x.weak_type for x in jax.tree.leaves(after))


def test_second_call_reuses_program_and_donated_memory():
    tx = guarded(THETA)
    step = jax.jit(tx.update, donate_argnums=1)
    state = tx.init(PARAMS)
    for i in range(3):
        updates, state = step(at(GRADS, i), state, PARAMS, value=float(CALM[i]))
    assert step._cache_size() == 1
    close((updates, state), at(trace(guarded), 2))


def test_vmap_equals_a_loop():
    runs = [
        (GRADS, CALM.at[25].set(10.0)),
        (with_bad_step(12, jnp.nan), CALM),
        (with_bad_step(0, jnp.inf), CALM.at[3].set(jnp.nan)),
    ]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *runs)
    one = lambda grads, values: trace(guarded, grads, values=values)  # noqa: E731
    found = jax.vmap(one)(*stacked)
    for i, run in enumerate(runs):
        close(at(found, i), one(*run))


def test_num_steps_and_rate_may_be_traced():
    @jax.jit
    def program(num_steps, rate):
        tx = RULE.bind(THETA, num_steps=num_steps)
        tx = guard.guarded(tx, its_adam(THETA), learning_rate=rate)
        return tx.update(at(GRADS, 0), tx.init(PARAMS), PARAMS, value=jnp.nan)[0]

    close(program(100, RATE), FIRST)
    close(program(7, 2 * RATE), jax.tree.map(lambda x: 2 * x, FIRST))
    assert program._cache_size() == 1


# What is refused.


@pytest.mark.parametrize("threshold", [0, -8.0, 1.0, float("nan")])
def test_threshold_that_anything_exceeds_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold must be above 1"):
        guarded(THETA, threshold=threshold)


def test_negative_rate_is_refused(load):
    with pytest.raises(ValueError, match="updates descend already: got guard=-0.001"):
        load(guard=-1e-3)(None)


def test_a_loss_that_is_no_scalar_is_refused():
    tx = guarded(THETA)
    with pytest.raises(ValueError, match=r"value must be the loss.*\(1,\)"):
        tx.update(at(GRADS, 0), tx.init(PARAMS), PARAMS, value=jnp.ones(1))


def test_rule_without_averages_is_refused(tmp_path):
    args = dict(baseline="adam", learning_rate=0.1, initial=1e-3)
    theta = rules.build("weight_decay", **args).init(jax.random.key(0))
    path = tmp_path / "decay"
    artifact.save(path, rule="weight_decay", rule_args=args, theta=theta, card={})
    with pytest.raises(ValueError, match="decay keeps no averages to make Adam of"):
        lopt.load(path, guard=1e-3)
    assert lopt.load(path).init(PARAMS)
