"""Losses that fall with the way gone, and optimizers that go so far every step."""

import jax
import jax.numpy as jnp
import optax

from tasks.base import Task, TaskFamily

STEPS, LOOKS, SEEDS = 80, 16, (3, 5, 7)


def road(name, length):
    """Returns a family whose loss falls with the way gone, and depends on the seed."""

    def task(draw):
        def loss(params, key, batch):
            return (1 + draw) * jnp.exp2(-params["way"] / length), {}

        def init(key):
            return {"way": jnp.zeros([])}

        return Task(init, loss, lambda data, key, split: (), lambda value: value)

    shapes = {"way": jax.ShapeDtypeStruct((), "float32")}
    return TaskFamily(name, {}, jax.random.uniform, task, shapes, shapes)


def moving(speed):
    """Returns the optimizer that goes so far every step, whatever the gradient."""

    def update(grads, state, params=None):
        return jax.tree.map(lambda g: jnp.full_like(g, speed), grads), state

    return optax.GradientTransformation(optax.init_empty_state, update)
