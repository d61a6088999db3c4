"""Families to be wrapped in augmentations, and augmentations to wrap them in."""

import functools

import jax
import jax.numpy as jnp

from tasks import base
from tasks.base import Task, fixed
from tasks.families import teacher

SCALES = dict(name="reparametrised", args=dict(scale=[0.5, 2.0], per="parameter"))
NOISE = dict(name="noisy_gradient", args=dict(noise=(0.1, 0.2)))
FEWER = dict(name="smaller_batch", args=dict(batch_size=3))
ROUNDED = dict(name="bfloat16_gradient", args={})
LATE = dict(name="delayed_gradient", args=dict(delay=2))
ES = dict(name="es_gradient", args=dict(sigma=0.01, pairs=2))


def key(seed):
    return jax.random.key(seed)


@functools.cache
def students():
    """Returns tiny students whose readout does not start at zero."""
    return teacher.teacher_student(
        inputs=3,
        outputs=1,
        teacher_width=4,
        teacher_depth=1,
        width=4,
        base_width=2,
        depth=1,
        batch_size=6,
        activations=("tanh",),
        noise=(0.0, 0.0),
        zero_readout=False,
    )


def counting():
    """Returns half squared distances to inputs, whose state is the number of losses."""

    def loss(params, key, batch, state):
        distance = jnp.sum((params["x"][None] - batch["input"]) ** 2, 1).mean()
        return 0.5 * (distance + params["y"] ** 2), {"state": state + 1}

    def evaluate(params, key, batch, state):
        return state.astype(float), {"state": state}

    task = Task(
        init=lambda key: {"x": jnp.array([1.0, -2.0]), "y": jnp.array(3.0)},
        loss=loss,
        batch=lambda data, key, split: {"input": jax.random.normal(key, [4, 2])},
        normalise=lambda value: value,
        state=jnp.int32(0),
        evaluate=evaluate,
    )
    shapes = jax.eval_shape(task.init, key(0))
    return fixed(task, name="counting", data={}, base_shapes=shapes)


def start(family, seed=0):
    draw = family.sample(key(seed))
    task = family.task(draw)
    return draw, task, task.init(key(seed + 1))


def step_of(task, params, seed=2):
    """Returns loss, next state and gradient on a batch, and the batch."""
    batch = task.batch((), key(seed), "train")
    return *base.gradient(task, params, key(3), batch, task.state), batch
