"""The full gradient of a long run fits in memory."""

from unittest import mock

import jax
import jax.numpy as jnp
import toys

KEY = jax.random.key(3)


def temporary_bytes(num_steps):
    """Returns what the compiled gradient of a run needs beside its inputs."""
    family = toys.family_of(lambda x, batch: jnp.sum(x**2), jnp.ones(1_000))
    inner = toys.inner(toys.heavy_ball(), family, window=1, horizon=num_steps)

    def value(theta):
        worker = inner.fresh(theta, {}, KEY, jnp.int32(0))
        return inner.run(theta, worker, {}, KEY)[1].objective.mean()

    theta = toys.heavy_ball().init(KEY)
    program = jax.jit(jax.grad(value)).lower(theta).compile()
    return program.memory_analysis().temp_size_in_bytes


def test_memory_of_the_full_gradient_grows_as_the_root_of_the_run():
    long, short = temporary_bytes(2_500), temporary_bytes(100)
    assert long < 8 * short  # the root says 5, a straight line 25


def test_rematerialising_saves_nine_tenths_of_the_memory():
    with mock.patch.object(jax, "checkpoint", lambda function: function):
        plain = temporary_bytes(2_000)
    assert temporary_bytes(2_000) < 0.1 * plain
