"""State is made from parameters: it lies, varies and is named as they are.

Most rows are only traced, over devices that need not exist.
"""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from optimizers import OPTIMIZERS, TUNED
from places import PYTHONPATH
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
MESH = AbstractMesh((4,), ("x",), axis_types=(AxisType.Auto,))


def info(params, wider=2):
    """Returns what muP must know, as if every leaf had grown."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), float), params)
    grown = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct([wider * n for n in x.shape], float), shapes
    )
    return mup.infer(grown, shapes, wider=shapes)


# Parameters here are wider than those that rules were trained on.
pytestmark = pytest.mark.filterwarnings("ignore:mup is:UserWarning")


def tiny(params, **changes):
    rule = rules.build("mlp", **ARGS | changes)
    return rule.bind(descending(rule), num_steps=400)


def guarded(params):
    rule = rules.build("mlp", **ARGS | {"head": "normalised"})
    theta = descending(rule)
    tx = rule.bind(theta, num_steps=400)
    adam = functools.partial(rule.adam, theta)
    return guard.guarded(tx, adam, learning_rate=1e-3)


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
# Where Optax's own optimizer fails a row, (row, name) -> how. Ours passes once it does.
ALONE = {
    "adafactor": optax.adafactor(1e-3),
    "muon": optax.contrib.muon(1e-3),
    "prodigy": optax.contrib.prodigy(1.0),
}
FAILS = {
    ("explicit mesh", "muon"): "illegally sharded result",
    ("explicit mesh", "prodigy"): "Contracting dimensions are sharded",
    ("shard_map", "prodigy"): "estim_lr",
    ("partitioning", "adafactor"): "the dimension size is 1",
    ("partitioning", "muon"): "MaskedNode|named tuple",
    ("nnx.Optimizer", "adafactor"): "incompatible with its sharding annotation",
    ("tree_map_params", "adafactor"): "ranks differ",
    ("tree_map_params", "muon"): "MaskedNode|named tuple",
}


def program(tx, params):
    """Returns parameters and state after a scan of updates."""

    def step(carry, _):
        params, state = carry
        value = jnp.sum(jax.tree.leaves(params)[0])
        updates, state = tx.update(params, state, params, value=value)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, tx.init(params)), length=3)[0]


def buffers(make):
    """A step of which parameters and state are donated wants no buffer twice."""
    params = jax.tree.map(jnp.copy, PARAMS)
    leaves = jax.tree.leaves((params, make(params).init(params)))
    pointers = [x.unsafe_buffer_pointer() for x in leaves if isinstance(x, jax.Array)]
    assert len({*pointers}) == len(pointers)


def explicit_mesh(make):
    mesh = AbstractMesh((4,), ("x",), axis_types=(AxisType.Explicit,))
    params = {
        k: jax.ShapeDtypeStruct(
            x.shape, x.dtype, sharding=NamedSharding(mesh, PLACES[k])
        )
        for k, x in PARAMS.items()
    }
    run = functools.partial(program, make(PARAMS))
    with jax.sharding.use_abstract_mesh(mesh):
        found, _ = jax.eval_shape(run, params)
    assert {k: x.sharding.spec for k, x in found.items()} == PLACES


def inside_shard_map(make):
    """An ensemble has a member on each device."""
    tx = make(PARAMS)

    def member(params):
        params, _ = program(tx, jax.tree.map(lambda x: x[0], params))
        return jax.tree.map(lambda x: x[None], params)

    ensemble = jax.tree.map(lambda x: jnp.stack([x] * 4), PARAMS)
    run = jax.shard_map(member, mesh=MESH, in_specs=P("x"), out_specs=P("x"))
    assert jax.eval_shape(run, ensemble)["matrix"].shape == (4, 8, 8)


def partitioning(make):
    """Of linen's names no axis is given more devices than divide it."""
    boxed = {k: linen.Partitioned(x, tuple(PLACES[k])) for k, x in PARAMS.items()}
    tx = make(boxed)

    def init():
        state = TrainState.create(apply_fn=None, params=boxed, tx=tx)
        return state.apply_gradients(grads=boxed)  # which knows of no `value`

    state = jax.eval_shape(init)
    places = linen.get_sharding(state, MESH)
    jax.tree.map(lambda x, at: at.shard_shape(x.shape), linen.unbox(state), places)


def tree_map_params(make):
    tx, names = make(PARAMS), {k: k for k in PARAMS}
    seen = []
    state = tx.init(PARAMS)
    optax.tree_map_params(tx, lambda x, k: seen.append((k, x.ndim)), state, names)
    assert {*seen} <= {(k, x.ndim) for k, x in PARAMS.items()}, "ranks differ"


def nnx_optimizer(make):
    def run():
        model = Model()
        params = nnx.state(model, nnx.Param)
        optimizer = nnx.Optimizer(model, make(params), wrt=nnx.Param)
        for _ in range(3):
            optimizer.update(model, params, value=jnp.ones([]))
        return nnx.as_pure(nnx.state(model, nnx.Param))

    with jax.sharding.use_abstract_mesh(MESH):
        assert jax.eval_shape(run)["linear"]["kernel"].shape == (3, 8)


class Model(nnx.Module):
    """Has a stack, of which an axis has a name, a vector and a scalar."""

    def __init__(self):
        init = nnx.with_partitioning(nnx.initializers.lecun_normal(), (None, "x"))
        self.linear = nnx.Linear(3, 8, kernel_init=init, rngs=nnx.Rngs(0))
        self.scale = nnx.Param(jnp.ones([]))


ROWS = {
    "buffers": buffers,
    "explicit mesh": explicit_mesh,
    "shard_map": inside_shard_map,
    "partitioning": partitioning,
    "tree_map_params": tree_map_params,
    "nnx.Optimizer": nnx_optimizer,
}


@pytest.mark.filterwarnings("ignore:a guard without the loss")
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("row", ROWS)
def test_state_is_as_parameters_are(row, name):
    if (row, name) not in FAILS:
        return ROWS[row](EVERY[name])
    for make in (EVERY[name], lambda params: ALONE[name]):
        with pytest.raises(Exception, match=FAILS[row, name]):
            ROWS[row](make)


AUTOMATIC = """
import functools, jax
jax.config.update("jax_num_cpu_devices", 4)
import test_state as t
from jax.sharding import NamedSharding
mesh = jax.make_mesh((4,), ("x",), axis_types=(t.AxisType.Auto,))
places = {k: NamedSharding(mesh, p) for k, p in t.PLACES.items()}
params = jax.device_put(t.PARAMS, places)
shapes = {x.shape: (x.sharding, x.ndim) for x in params.values() if x.ndim}
def check(name, state):
    for x in jax.tree.leaves(state):
        place, ndim = shapes.get(x.shape, (x.sharding, x.ndim))
        assert x.sharding.is_equivalent_to(place, ndim), (name, x.shape, x.sharding)
for name, make in t.EVERY.items():
    tx = make(params)
    check(name, tx.init(params))
    if name in ("mlp", "mlp-guarded-unstacked", "adam"):
        check(name, jax.jit(functools.partial(t.program, tx))(params))
print("done")
"""


def test_state_lies_where_parameters_do_on_an_automatic_mesh():
    places = os.pathsep.join([PYTHONPATH, os.path.dirname(__file__)])
    out = subprocess.run(
        [sys.executable, "-c", AUTOMATIC],
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
    )
    assert out.stdout == "done\n", out.stderr[-2000:]


def learnable():
    """Returns name -> (rule, theta) of rules that keep averages."""
    args = {
        "mlp": {},
        "mlp-absolute": dict(eps="absolute", time=("absolute",), head="normalised"),
        "mlp-signal": dict(signal=True, nominal=1.0),
    }
    found = {k: rules.build("mlp", **ARGS | more) for k, more in args.items()}
    tiny = {k: (rule, descending(rule)) for k, rule in found.items()}
    cards = {f"load-{name}": lopt.read(name) for name in lopt.released()}
    return tiny | {k: (card.rule, card.theta) for k, card in cards.items()}


LEARNABLE = learnable()
ALIKE = ("load-demo", "load-mu_norm")  # made as others are


@pytest.mark.parametrize(
    ("name", "guarded"),
    [
        *((name, True) for name in LEARNABLE if name not in ALIKE),
        *(pytest.param(name, True, marks=pytest.mark.slow) for name in ALIKE),
        ("mlp", False),
    ],
)
def test_meta_gradients_are_finite_where_parameters_never_see_a_gradient(name, guarded):
    rule, theta = LEARNABLE[name]
    start = {k: PARAMS[k] for k in ("stack", "vector")}

    def loss(params):
        return jnp.sum(params["stack"][0, 1:] ** 2)

    def outer(theta):
        tx = rule.bind(theta, num_steps=9)
        if guarded:
            adam = functools.partial(rule.adam, theta)
            tx = guard.guarded(tx, adam, learning_rate=1e-2)

        def step(carry, value):
            params, state = carry
            updates, state = tx.update(
                jax.grad(loss)(params), state, params, value=value
            )
            return (optax.apply_updates(params, updates), state), None

        carry, _ = jax.lax.scan(step, (start, tx.init(start)), values)
        return loss(carry[0])

    values = jnp.array([1.0, jnp.nan, 1.0])  # of which the second is a spike
    grad = jax.jit(jax.grad(outer))(theta)
    assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(grad))
    assert any(jnp.any(x != 0) for x in jax.tree.leaves(grad))
