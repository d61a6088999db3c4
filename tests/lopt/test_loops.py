"""A loaded rule trains in the loops that people have: each reduces a real loss."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
import tiny_rule
from flax import nnx
from flax.training.train_state import TrainState
from sklearn.datasets import load_wine

import lopt

STEPS = 150


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_rule.save(tmp_path_factory.mktemp("loops") / "tiny")


def data():
    """Returns 178 wines: standardised measurements [178, 13] and cultivars [178]."""
    x, y = load_wine(return_X_y=True)
    return jnp.float32((x - x.mean(0)) / x.std(0)), jnp.int32(y)


def cross_entropy(logits, labels):
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean()


def learnt(losses):
    """Whether the loss fell from that of a guess to almost none."""
    return losses[0] > 0.7 and losses[-1] < 0.1


def test_plain_pytree_learns(path):
    x, y = data()
    tx = lopt.load(path, num_steps=STEPS)
    params = {"w": jnp.zeros((13, 3)), "b": jnp.zeros(3)}
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        loss, grads = jax.value_and_grad(
            lambda p: cross_entropy(x @ p["w"] + p["b"][None], y)
        )(params)
        updates, state = tx.update(grads, state, params, value=loss)
        return optax.apply_updates(params, updates), state, loss

    losses = []
    for _ in range(STEPS):
        params, state, loss = step(params, state)
        losses.append(loss)
    assert learnt(losses)


class Wines(nnx.Module):
    """13 -> width -> 3."""

    def __init__(self, width, rngs):
        self.hidden = nnx.Linear(13, width, rngs=rngs)
        self.readout = nnx.Linear(width, 3, rngs=rngs)

    def __call__(self, x):
        return self.readout(nnx.relu(self.hidden(x)))


def test_nnx_optimizer_learns_under_mup(path):
    x, y = data()
    shapes, base_shapes = (
        nnx.state(nnx.eval_shape(lambda n=n: Wines(n, nnx.Rngs(0))), nnx.Param)
        for n in (16, 8)
    )
    info = lopt.mup.infer(shapes, base_shapes, {"readout/kernel": 1.0})
    model = Wines(16, nnx.Rngs(0))
    tx = lopt.load(path, num_steps=STEPS, mup=info)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        loss, grads = nnx.value_and_grad(lambda m: cross_entropy(m(x), y))(model)
        optimizer.update(model, grads, value=loss)
        return loss

    assert learnt([step(model, optimizer) for _ in range(STEPS)])


def test_linen_train_state_learns(path):
    x, y = data()
    model = nn.Sequential([nn.Dense(16), nn.relu, nn.Dense(3)])
    state = TrainState.create(
        apply_fn=model.apply,
        params=model.init(jax.random.key(0), x)["params"],
        tx=lopt.load(path, num_steps=STEPS),
    )

    @jax.jit
    def step(state):
        loss, grads = jax.value_and_grad(
            lambda p: cross_entropy(state.apply_fn({"params": p}, x), y)
        )(state.params)
        return state.apply_gradients(grads=grads), loss

    losses = []
    for _ in range(STEPS):
        state, loss = step(state)
        losses.append(loss)
    assert learnt(losses)
