"""Every rule and baseline has every property that Optax users rely on.

Values are computed op by op and shared programs are tiny, so that the whole table
takes about two minutes.
"""

import ast
import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from optimizers import (
    GRADS,
    INFO,
    OPTIMIZERS,
    PARAMS,
    RULES,
    SMALL,
    SMALL_GRADS,
    TARGETS,
    build,
    plain,
    run,
    same,
)
from places import PYTHONPATH

from lopt.baselines import BASELINES

every = pytest.mark.parametrize("name", OPTIMIZERS)
every_rule = pytest.mark.parametrize("name", RULES)
every_baseline = pytest.mark.parametrize("name", BASELINES)


@every
def test_value_is_optional_and_unused_arguments_are_tolerated(name):
    same(run(build(name), value=jnp.float32(0.5), junk="x", grad_fn=None), plain(name))


@every
def test_second_call_reuses_program_and_donated_memory(name):
    tx = build(name)
    step = jax.jit(tx.update, donate_argnums=(0, 1))
    state = tx.init(PARAMS)
    for _ in range(2):
        updates, state = step(jax.tree.map(jnp.copy, GRADS), state, PARAMS)
    assert step._cache_size() == 1
    same((updates, state), plain(name))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
@every
def test_dtypes_survive_cond_and_scan(name, dtype):
    tx = build(name)

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(params, state, params)
        return (optax.apply_updates(params, updates), state), updates

    def program(flag, params):
        carry = params, tx.init(params)
        carry = jax.lax.cond(flag, lambda c: step(c, None)[0], lambda c: c, carry)
        return jax.lax.scan(step, carry, length=3)

    with jax.enable_x64(dtype == "float64"):
        params = jax.tree.map(lambda x: jnp.asarray(x, dtype), PARAMS)
        (_, state), updates = jax.eval_shape(program, True, params)
    assert {x.dtype.name for x in jax.tree.leaves(updates)} == {dtype}
    wide = {np.dtype("int32"), jnp.promote_types(dtype, jnp.float32)}
    assert {x.dtype for x in jax.tree.leaves(state)} <= wide


@every
def test_num_steps_may_be_traced(name):
    def program(num_steps):
        tx = OPTIMIZERS[name](num_steps)
        return tx.update(SMALL_GRADS, tx.init(SMALL), SMALL)

    traced = jax.jit(program)
    same(traced(400), build(name).update(SMALL_GRADS, build(name).init(SMALL), SMALL))
    traced(10)
    assert traced._cache_size() == 1


@every
def test_vmap_equals_a_loop(name):
    tx = build(name)
    scales = [1.0, 0.3]
    stacked = jax.tree.map(lambda x: jnp.stack([s * x for s in scales]), SMALL_GRADS)
    state = jax.vmap(tx.init, axis_size=2, in_axes=None)(SMALL)
    updates, _ = jax.jit(jax.vmap(tx.update, in_axes=(0, 0, None)))(
        stacked, state, SMALL
    )
    for i, s in enumerate(scales):
        grads = {"matrix": s * SMALL_GRADS["matrix"]}
        alone, _ = tx.update(grads, tx.init(SMALL), SMALL)
        same(updates["matrix"][i], alone["matrix"])


@every
def test_chain_applies_what_follows(name):
    updates, _ = run(optax.chain(build(name), optax.scale(-0.5)))
    same(jax.tree.map(lambda x: -2 * x, updates), plain(name)[0])


@every
def test_partition_leaves_the_rest_to_others(name):
    labels = dict.fromkeys(PARAMS, "ours") | {"vector": "frozen"}
    tx = optax.partition({"ours": build(name), "frozen": optax.set_to_zero()}, labels)
    expected = plain(name)[0] | {"vector": jnp.zeros(4)}
    same(run(tx)[0], expected)


@every
def test_masked_leaves_pass(name):
    mask = dict.fromkeys(PARAMS, True) | {"matrix": False}
    expected = plain(name)[0] | {"matrix": GRADS["matrix"]}
    same(run(optax.masked(build(name), mask))[0], expected)


@every
def test_multi_steps_averages_gradients(name):
    tx = optax.MultiSteps(build(name), 2)
    state = tx.init(SMALL)
    update = jax.jit(tx.update)
    halves = [jax.tree.map(lambda x, s=s: s * x, SMALL_GRADS) for s in (0.5, 1.5)]
    first, state = update(halves[0], state, SMALL)
    second, _ = update(halves[1], state, SMALL)
    expected, _ = build(name).update(SMALL_GRADS, build(name).init(SMALL), SMALL)
    assert not np.any(first["matrix"])
    same(second, expected)


@every
def test_apply_if_finite_skips_a_nan_and_goes_on(name):
    tx = optax.apply_if_finite(build(name), 3)
    update = jax.jit(tx.update)
    bad, state = update({"matrix": SMALL["matrix"] * jnp.nan}, tx.init(SMALL), SMALL)
    good, _ = update(SMALL_GRADS, state, SMALL)
    expected, _ = build(name).update(SMALL_GRADS, build(name).init(SMALL), SMALL)
    assert not np.any(bad["matrix"])
    same(good, expected)


@every_baseline
def test_inject_hyperparams_sets_the_learning_rate(name):
    def make(learning_rate):
        return BASELINES[name].build(
            num_steps=400, info=INFO, learning_rate=learning_rate, schedule="constant"
        )

    tx = optax.inject_hyperparams(make)(learning_rate=7.0)
    state = tx.init(PARAMS)
    state.hyperparams["learning_rate"] = jnp.float32(0.02)
    direct = make(0.02)
    found, _ = tx.update(GRADS, state, PARAMS)
    same(found, direct.update(GRADS, direct.init(PARAMS), PARAMS)[0])


@every
def test_bfloat16_parameters_get_the_float32_updates_rounded(name):
    grads, params = (
        jax.tree.map(lambda x: x.astype(jnp.bfloat16), x) for x in (GRADS, PARAMS)
    )
    wide = (jax.tree.map(lambda x: x.astype(jnp.float32), x) for x in (grads, params))
    found, expected = run(build(name), grads, params)[0], run(build(name), *wide)[0]
    found = jax.tree.map(lambda x: x.astype(jnp.float32), found)
    same(found, expected, rtol=2**-8)


@every
def test_empty_leaf_changes_nothing_and_scalar_is_a_vector_of_one(name):
    odd = {"scalar": PARAMS["scalar"][None], "empty": PARAMS["empty"]}
    grads = {"scalar": GRADS["scalar"][None], "empty": GRADS["empty"]}
    updates, _ = run(build(name), grads, odd)
    same(updates["scalar"][0], plain(name)[0]["scalar"])
    assert updates["empty"].shape == (0, 3)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(plain(name)))


@every
def test_numbers_of_python_are_scalars(name):
    params, grads = ({"scalar": float(x["scalar"])} for x in (PARAMS, GRADS))
    same(run(build(name), grads, params)[0]["scalar"], plain(name)[0]["scalar"])


@every
def test_zero_gradients_give_finite_updates(name):
    updates, _ = run(build(name), jax.tree.map(jnp.zeros_like, GRADS))
    assert all(np.all(np.isfinite(x)) for x in updates.values())
    if "normalised" in name:
        assert not any(np.any(x) for x in updates.values())


def filled_state(name):
    """Returns a state without empty arrays, which Orbax cannot save."""
    params, grads = ({**x} for x in (PARAMS, GRADS))
    del params["empty"], grads["empty"]
    return run(build(name), grads, params)[1]


@pytest.fixture(scope="module")
def restored(tmp_path_factory):
    """Returns every optimizer's state after Orbax has written and read it."""
    states = {name: filled_state(name) for name in OPTIMIZERS}
    template = jax.tree.map(ocp.utils.to_shape_dtype_struct, states)
    path = tmp_path_factory.mktemp("orbax") / "states"
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, states)
        checkpointer.wait_until_finished()
        return checkpointer.restore(path, template)


@every
def test_state_survives_orbax(name, restored):
    state = filled_state(name)
    assert jax.tree.structure(restored[name]) == jax.tree.structure(state)
    equal = functools.partial(np.testing.assert_array_equal, strict=True)
    jax.tree.map(equal, restored[name], state)


@every
def test_small_targets_are_approached(name):
    tx = build(name)

    def losses(params):
        return {k: loss(params[k]) for k, (_, loss) in TARGETS.items()}

    def step(carry, _):
        params, state = carry
        grads = jax.grad(lambda p: sum(losses(p).values()))(params)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def program(params):
        carry, _ = jax.lax.scan(step, (params, tx.init(params)), length=400)
        return losses(params), losses(carry[0])

    before, after = program({k: start for k, (start, _) in TARGETS.items()})
    for target in TARGETS:
        assert after[target] < 0.05 * before[target], target


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e4])
@every_rule
def test_relative_updates_ignore_the_scale_of_gradients(name, scale):
    updates, _ = run(build(name), jax.tree.map(lambda x: scale * x, GRADS))
    expected, _ = plain(name)
    if "absolute-eps" not in name:
        same(updates, expected, rtol=1e-4)
    elif scale == 1e-8:
        ratio = np.abs(updates["matrix"] / expected["matrix"] - 1)
        assert np.max(ratio) > 0.1, "absolute epsilons hide tiny gradients"


SHARDED = """
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 4)
import optimizers as t
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
spec = dict(matrix=P(None, "x"), vector=P("x"), scalar=P(), empty=P())
place = {k: NamedSharding(mesh, spec[k]) for k in t.PARAMS}
params, grads = jax.device_put((t.PARAMS, t.GRADS), (place, place))
for name in t.OPTIMIZERS:
    tx = t.build(name)
    updates, _ = jax.jit(tx.update)(grads, tx.init(params), params)
    for k in ("matrix", "vector"):
        assert updates[k].sharding.is_equivalent_to(place[k], params[k].ndim), (name, k)
    print(name, [x.tolist() for x in jax.tree.leaves(updates)], sep="|")
"""


def test_sharded_parameters_get_the_same_updates_sharded_alike():
    found = subprocess.run(
        [sys.executable, "-c", SHARDED],
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
    )
    assert not found.returncode, found.stderr[-2000:]
    rows = dict(line.split("|") for line in found.stdout.splitlines())
    assert list(rows) == list(OPTIMIZERS)
    for name, row in rows.items():
        expected, _ = build(name).update(GRADS, build(name).init(PARAMS), PARAMS)
        leaves = [jnp.array(x) for x in ast.literal_eval(row)]
        # Of the first, which is empty, nothing is said; sums are in another order.
        same(leaves[1:], jax.tree.leaves(expected)[1:], rtol=1e-4)
