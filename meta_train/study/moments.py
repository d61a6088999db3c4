"""Bias, variance and cost of meta-gradient estimators, from independent replicas."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.estimators import Estimator


class Plan(NamedTuple):
    """How one estimator is measured.

    Attributes:
      estimator: whose estimates are means over its workers.
      skip: estimates of a replica before those that count; none of these may come from
        a run that did not begin at its first step.
      count: those that count, in a row; whole horizons of them, so that every replica
        sees each part of a run as often.
    """

    estimator: Estimator
    skip: int
    count: int


class Sample(NamedTuple):
    """What r independent replicas of one estimator gave.

    Attributes:
      means: [r, d], the mean gradient of each.
      square: [r], the mean squared norm of single estimates.
      cosine: [r], the mean cosine of single estimates to a direction.
      diverged: [r], the mean number of workers that diverged in an estimate.
      seconds: [r], of one estimate.
    """

    means: np.ndarray
    square: np.ndarray
    cosine: np.ndarray
    diverged: np.ndarray
    seconds: np.ndarray


class Number(NamedTuple):
    """A value and its standard error."""

    value: float
    error: float


def sampled(
    plans: Mapping[str, Plan],
    theta: Any,
    data: Any,
    direction: np.ndarray,
    *,
    seed: int,
    replicas: int,
) -> dict[str, Sample]:
    """Returns what replicas of each estimator give at one theta.

    Estimators take turns, so that other load on the machine falls on all alike.

    Args:
      plans: by the name of the estimator.
      theta: where gradients are estimated; it stays.
      data: of the family.
      direction: [d], of length 1.
      seed: of all keys; each estimator has its own.
      replicas: r, at least 3.
    """
    keys = jax.random.split(jax.random.key(seed), len(plans))
    programs, found = {}, {name: [] for name in plans}
    for key, (name, plan) in zip(keys, plans.items(), strict=True):
        print(f"compiling {name}", flush=True)
        program = jax.jit(_replica(plan))
        programs[name] = program.lower(theta, data, direction, key).compile(), key
    for index in range(replicas):
        print(f"replica {index + 1} of {replicas}", flush=True)
        for name, (program, key) in programs.items():
            own_key = jax.random.fold_in(key, index)
            start = time.perf_counter()
            out = jax.device_get(program(theta, data, direction, own_key))
            seconds = time.perf_counter() - start
            count = plans[name].skip + plans[name].count
            found[name].append((*out, seconds / count))
    return {
        name: Sample(*(np.asarray(x, np.float64) for x in zip(*rows, strict=True)))
        for name, rows in found.items()
    }


def _replica(plan: Plan) -> Callable[..., tuple]:
    """Returns the program of one replica, from its start."""

    def replica(theta, data, direction, key):
        start_key, key = jax.random.split(key)

        def estimated(state, key):
            estimate, state = plan.estimator.estimate(theta, state, data, key)
            leaves = jax.tree.leaves(estimate.grad)
            grad = jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])
            norm = jnp.linalg.norm(grad)
            cosine = grad @ direction / jnp.where(norm > 0, norm, 1)
            return state, (grad, norm**2, cosine, estimate.metrics["diverged"])

        state = plan.estimator.init(theta, data, start_key)
        keys = jax.random.split(key, plan.skip + plan.count)
        _, seen = jax.lax.scan(estimated, state, keys)
        return jax.tree.map(lambda x: jnp.mean(x[plan.skip :], axis=0), seen)

    return replica


def squared_norm(means: np.ndarray) -> float:
    """Returns |E g|^2 from products of different replicas; |mean g|^2 is more.

    >>> squared_norm(np.array([[1.0], [3.0]]))
    3.0
    """
    count = len(means)
    products = np.sum(np.square(means.sum(0))) - np.sum(np.square(means))
    return float(products / (count * (count - 1)))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Returns |E a - E b|^2 over |E b|^2, without bias but for b's part below."""
    return (
        squared_norm(a) - 2 * float(a.mean(0) @ b.mean(0)) + squared_norm(b)
    ) / squared_norm(b)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the cosine of E a to E b; above 1 by chance, 0 where noise hides one."""
    square = max(squared_norm(a), 0) * max(squared_norm(b), 0)
    return float(a.mean(0) @ b.mean(0)) / square**0.5 if square else 0.0


def signal_to_noise(means: np.ndarray, square: np.ndarray) -> float:
    """Returns |E g|^2 over the trace of the covariance of one estimate."""
    signal = squared_norm(means)
    return signal / max(square.mean() - signal, 1e-12 * square.mean())


def jackknife(statistic: Callable[..., float], *arrays: tuple[Any, ...]) -> Number:
    """Returns a statistic of independent samples, each a tuple of arrays [r, ...].

    The standard error leaves out one replica at a time; it is right or too large (Efron
    and Stein 1981, doi:10.1214/aos/1176345462).

    >>> jackknife(np.mean, (np.array([1.0, 2.0, 3.0]),))  # error: (1 / 3) ** 0.5
    Number(value=2.0, error=0.5773502691896257)
    """
    variance = 0.0
    for index, arrays_of_one in enumerate(arrays):
        count = len(arrays_of_one[0])
        values = []
        for left_out in range(count):
            less = tuple(np.delete(x, left_out, axis=0) for x in arrays_of_one)
            values.append(
                statistic(*sum((*arrays[:index], less, *arrays[index + 1 :]), ()))
            )
        variance += (count - 1) * np.var(values)
    return Number(float(statistic(*sum(arrays, ()))), float(variance**0.5))


def numbers(sample: Sample, plan: Plan, exact: Sample) -> dict[str, Any]:
    """Returns what a sample says of its estimator, as JSON values.

    Squares are over |E exact|^2. `bias`, `cosine` and `snr` are pairs, of a value and
    its standard error:

    - `bias`: |E g - E exact|^2; `cosine`: of E g to E exact;
    - `variance`: the trace of the covariance of one estimate; `in_row`: that of a
      replica's mean, times its number of estimates, which is more if those in a row
      resemble each other;
    - `snr`: |E g|^2 over the trace of the covariance of one estimate;
      `cosine_of_one`: the mean over estimates;
    - `steps` and `seconds` of one estimate, and `snr_per_1000_steps`,
      `snr_per_second`;
    - `diverged`: workers an estimate; `estimates`: how many there were.
    """
    reference, signal = squared_norm(exact.means), squared_norm(sample.means)
    snr = jackknife(signal_to_noise, (sample.means, sample.square))
    seconds, steps = float(np.median(sample.seconds)), plan.estimator.steps
    spread = np.mean(np.sum(np.square(sample.means), axis=1)) - signal
    return {
        "bias": jackknife(distance, (sample.means,), (exact.means,)),
        "cosine": jackknife(cosine, (sample.means,), (exact.means,)),
        "variance": (sample.square.mean() - signal) / reference,
        "in_row": plan.count * spread / reference,
        "snr": snr,
        "cosine_of_one": sample.cosine.mean(),
        "steps": steps,
        "seconds": seconds,
        "snr_per_1000_steps": 1000 * snr.value / steps,
        "snr_per_second": snr.value / seconds,
        "diverged": sample.diverged.mean(),
        "estimates": plan.count * len(sample.means),
    }
