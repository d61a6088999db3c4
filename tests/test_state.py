"""State is made from parameters: it lies, varies and is named as they are.

Most rows are only traced, over devices that need not exist.
"""

import contextlib
import functools

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from optimizers import OPTIMIZERS, TUNED
from tiny_rule import ARGS, descending

import lopt
from lopt import guard, mup, rules
from lopt.baselines import BASELINES

PARAMS = {
    "matrix": jnp.linspace(-1, 1, 64).reshape(8, 8),
    "stack": jnp.linspace(-1, 1, 24).reshape(3, 8),
    "vector": jnp.linspace(0, 1, 8),
    "scalar": jnp.float32(0.7),
}
PLACES = {"matrix": P("x", None), "stack": P(None, "x"), "vector": P("x")}
PLACES |= {"scalar": P()}


def info(params, wider=2):
    """Returns what muP must know, as if every leaf had grown."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), float), params)
    grown = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct([wider * n for n in x.shape], float), shapes
    )
    return mup.infer(grown, shapes, wider=shapes)


def tiny(params, **changes):
    rule = rules.build("mlp", **ARGS | changes)
    return rule.bind(descending(rule), num_steps=400)


def guarded(params):
    rule = rules.build("mlp", **ARGS | {"head": "normalised"})
    theta = descending(rule)
    tx = rule.bind(theta, num_steps=400)
    return guard.guarded(tx, theta["decays"], learning_rate=1e-3)


def hand_designed(params, name):
    rate, schedule = TUNED[name]
    build = BASELINES[name].build
    return build(
        num_steps=400, info=info(params), learning_rate=rate, schedule=schedule
    )


def loaded(params, name, guard=None):
    return lopt.load(name, num_steps=200, mup=info(params), guard=guard)


def unstacked(params, inner):
    def mask(params):
        return jax.tree.map(lambda x: jnp.shape(x)[:1] == (3,), params)

    return lopt.unstacked(inner(params), mask)


# name -> params -> optimizer
EVERY = {
    "mlp": tiny,
    "mlp-absolute": functools.partial(tiny, eps="absolute", time=("absolute",)),
    "mlp-signal": functools.partial(tiny, signal=True, nominal=1.0),
    "mlp-guarded": guarded,
    "mlp-unstacked": functools.partial(unstacked, inner=tiny),
    "mlp-guarded-unstacked": functools.partial(unstacked, inner=guarded),
    "weight_decay": lambda params: OPTIMIZERS["weight_decay-adam"](400),
    **{name: functools.partial(hand_designed, name=name) for name in BASELINES},
    **{f"load-{x}": functools.partial(loaded, name=x) for x in lopt.released()},
    "load-guarded": functools.partial(loaded, name="mu_mlp", guard=1e-3),
}
every = pytest.mark.parametrize("name", EVERY)
# (row, name) -> why Optax fails where its optimizers are used alone
FAILS = {}


def fails(row, name):
    """Returns what expects a row to fail, where Optax itself does."""
    if (row, name) not in FAILS:
        return contextlib.nullcontext()
    return pytest.raises(FAILS[row, name])


def program(tx, params):
    """Returns parameters and state after a scan of updates."""

    def step(carry, _):
        params, state = carry
        value = jnp.sum(jax.tree.leaves(params)[0])
        updates, state = tx.update(params, state, params, value=value)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, tx.init(params)), length=3)[0]


@every
def test_no_two_leaves_of_a_fresh_state_or_parameters_are_one_buffer(name):
    params = jax.tree.map(jnp.copy, PARAMS)
    leaves = jax.tree.leaves((params, EVERY[name](params).init(params)))
    pointers = [x.unsafe_buffer_pointer() for x in leaves if isinstance(x, jax.Array)]
    assert len({*pointers}) == len(pointers)


@every
def test_scan_runs_on_an_explicit_mesh(name):
    mesh = AbstractMesh((4,), ("x",), axis_types=(AxisType.Explicit,))
    params = {
        k: jax.ShapeDtypeStruct(
            x.shape, x.dtype, sharding=NamedSharding(mesh, PLACES[k])
        )
        for k, x in PARAMS.items()
    }
    run = functools.partial(program, EVERY[name](PARAMS))
    with jax.sharding.use_abstract_mesh(mesh):
        found, _ = jax.eval_shape(run, params)
    assert {k: x.sharding.spec for k, x in found.items()} == PLACES


@every
def test_an_ensemble_runs_inside_shard_map(name):
    tx = EVERY[name](PARAMS)

    def member(params):
        params, _ = program(tx, jax.tree.map(lambda x: x[0], params))
        return jax.tree.map(lambda x: x[None], params)

    ensemble = jax.tree.map(lambda x: jnp.stack([x] * 4), PARAMS)
    mesh = AbstractMesh((4,), ("x",), axis_types=(AxisType.Auto,))
    run = jax.shard_map(member, mesh=mesh, in_specs=P("x"), out_specs=P("x"))
    assert jax.eval_shape(run, ensemble)["matrix"].shape == (4, 8, 8)


@every
def test_partitioning_of_linen_divides_the_train_state(name):
    boxed = {k: linen.Partitioned(x, tuple(PLACES[k])) for k, x in PARAMS.items()}
    mesh = AbstractMesh((4,), ("x",), axis_types=(AxisType.Auto,))

    def init():
        tx = EVERY[name](boxed)
        state = TrainState.create(apply_fn=None, params=boxed, tx=tx)
        return state.apply_gradients(grads=boxed)

    state = jax.eval_shape(init)
    shardings = linen.get_sharding(state, mesh)
    jax.tree.map(lambda x, at: at.shard_shape(x.shape), linen.unbox(state), shardings)


@every
def test_tree_map_params_finds_what_is_like_parameters(name):
    tx = EVERY[name](PARAMS)
    names = {k: k for k in PARAMS}
    mapped = optax.tree_map_params(
        tx, lambda x, k: (k, jnp.ndim(x)), tx.init(PARAMS), names
    )


class Model(nnx.Module):
    def __init__(self):
        self.linear = nnx.Linear(3, 8, rngs=nnx.Rngs(0))
        self.scale = nnx.Param(jnp.ones([]))


@every
def test_optimizer_of_nnx_updates_three_times(name):
    def run():
        model = Model()
        params = nnx.state(model, nnx.Param)
        tx = EVERY[name](params)
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        for _ in range(3):
            optimizer.update(model, nnx.state(model, nnx.Param), value=jnp.ones([]))
        return nnx.as_pure(nnx.state(model, nnx.Param))

    assert jax.eval_shape(run)["linear"]["kernel"].shape == (3, 8)
