"""What estimators find on average, beside what they should: closed forms and loops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import toys

from meta_train import estimators

KEY = jax.random.key(3)
CURVATURE = np.array([1.0, 4.0])  # of toys.quadratic
THETA = {"log_lr": np.log(0.1), "decay": np.asarray(0.5)}  # of toys.heavy_ball


def batch_keys(key, num_steps, salt=None):
    """Returns the batch keys that a window of `unroll` draws from `key`."""
    key = jax.random.split(key)[0]
    key = key if salt is None else jax.random.fold_in(key, salt)
    return jax.random.split(key, num_steps + 1)


def loss_at(family, params, key):
    batch_key, loss_key = jax.random.split(key)
    task = family.task(())
    return task.loss(params, loss_key, task.batch({}, batch_key, "train"))[0]


def run(rule, family, theta, params, state, keys):
    """Returns the losses of a plain Python loop, params and the rule's state."""
    tx, losses = rule.bind(theta), []
    for key, next_key in zip(keys[:-1], keys[1:], strict=True):
        grads = jax.grad(lambda p, key=key: loss_at(family, p, key))(params)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        losses.append(loss_at(family, params, next_key))
    return jnp.stack(losses), params, state


def close(tree, expected, rtol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol), tree, expected)


def sampled(
    name, inner, theta, *, count=20_000, num_workers=1, num_windows=7, skip=0, **args
):
    """Returns the mean estimate of each of `count` chains, over windows from a start.

    Windows of 5 steps and runs of 7 meet in every way in 7 windows; `skip` come before.
    """
    if "noise" in args:
        args["noise"] = toys.noise(**args["noise"])
    one = estimators.build(name, inner=inner, num_workers=num_workers, **args)
    theta = jax.tree.map(jnp.asarray, theta)

    def chain(key):
        def window(state, index):
            found, state = one.estimate(
                theta, state, {}, jax.random.fold_in(key, index)
            )
            return state, found.grad

        indices = jnp.arange(skip + num_windows)
        grads = jax.lax.scan(window, one.init(theta, {}, key), indices)[1]
        return jax.tree.map(lambda g: g[skip:].mean(0), grads)

    return jax.jit(jax.vmap(chain))(jax.random.split(KEY, count))


def agree(samples, expected, *, within=0.05):
    """Asserts that two means are three standard errors apart at most.

    Args:
      samples: a leaf is [n], independent.
      expected: exact, or samples too.
      within: the largest error, relative to the mean, with which this says much.
    """

    def check(found, exact):
        errors = [x.std() / x.size**0.5 for x in (found, exact)]
        gap, error = found.mean() - exact.mean(), np.hypot(*errors)
        what = f"{found.mean():.6f} for {exact.mean():.6f}, standard error {error:.6f}"
        assert abs(gap) < 3 * error, what
        assert error < within * abs(exact.mean()), what

    jax.tree.map(lambda a, b: check(np.asarray(a), np.asarray(b)), samples, expected)


def heavy_ball(thetas, batches):
    """Returns L_t of toys.heavy_ball on toys.quadratic, in a few lines of algebra.

    Args:
      thetas: leaves [T], one for each step.
      batches: [T + 1, 2].
    """

    def step(carry, now):
        x, momentum = carry
        theta, batch, next_batch = now
        momentum = theta["decay"] * momentum + CURVATURE * x + batch
        x = x - jnp.exp(theta["log_lr"]) * momentum
        loss = 0.5 * jnp.sum(CURVATURE * x**2) + jnp.sum(next_batch * x)
        return (x, momentum), loss

    start = (jnp.array([1.0, -2.0]), jnp.zeros(2))
    return jax.lax.scan(step, start, (thetas, batches[:-1], batches[1:]))[1]


def smoothed(theta, *, scales, batches, of, every, count=20_000):
    """Returns exact gradients of heavy ball, in runs of 7 steps, by their 35 steps.

    Args:
      theta: leaves [].
      scales: standard deviations of kicks, like theta.
      batches: standard deviation of their noise.
      of: losses [7] -> what is differentiated.
      every: steps that a kick lasts.
      count: how many sets of five runs.
    """

    def gradients(key):
        kick_key, batch_key = jax.random.split(key)
        noise = batches * jax.random.normal(batch_key, (5, 8, 2))
        kicks = {
            name: scale
            * jax.random.normal(jax.random.fold_in(kick_key, i), 35 // every)
            for i, (name, scale) in enumerate(scales.items())
        }
        kicks = jax.tree.map(lambda k: jnp.repeat(k, every).reshape(5, 7), kicks)

        def value(theta):
            thetas = jax.tree.map(jnp.add, theta, kicks)
            return jnp.mean(jax.vmap(of)(jax.vmap(heavy_ball)(thetas, noise)))

        return jax.grad(value)(theta)

    keys = jax.random.split(jax.random.key(9), count)
    return jax.jit(jax.vmap(gradients))(keys)
