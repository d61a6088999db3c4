"""Evaluations small enough for tests: linear classifiers, and who is judged on them."""

import functools

import jax
import optax

from evaluation import evaluate
from evaluation.runs.tuning import Tuning
from lopt.baselines import BASELINES, Baseline
from lopt.baselines.spaces import Range
from tasks.base import Task, TaskFamily

STEPS, LOOKS, SEEDS = 8, 4, (3, 5, 7)
TUNING = Tuning("search", 5, (0, 1))
SETTLED = {"trials": 0, "sequential": False}  # of what is not tuned


@functools.cache
def family():
    """Returns linear classifiers, drawn with a scale, of 20 noisy points a split."""
    x_key, y_key = jax.random.split(jax.random.key(0))
    x = jax.random.normal(x_key, [3, 20, 3])
    label = jax.random.randint(y_key, [3, 20], 0, 4)
    data = {
        split: {"input": x[i], "label": label[i]}
        for i, split in enumerate(("train", "inner_valid", "test"))
    }

    def task(draw):
        def loss(params, key, batch):
            noise = 0.1 * jax.random.normal(key, batch["input"].shape)
            logits = draw * (batch["input"] + noise) @ params["w"]
            losses = optax.softmax_cross_entropy_with_integer_labels(
                logits, batch["label"]
            )
            hits = logits.argmax(-1) == batch["label"]
            return losses.mean(), {"logits": logits, "correct": hits.mean()}

        def batch(data, key, split):
            index = jax.random.randint(key, [4], 0, 20)
            return jax.tree.map(lambda a: a[index], data[split])

        def init(key):
            return {"w": jax.random.normal(key, [3, 4])}

        return Task(init, loss, batch, lambda value: value)

    shapes = {"w": jax.ShapeDtypeStruct((3, 4), "float32")}
    return TaskFamily("toy", data, jax.random.uniform, task, shapes, shapes)


def tx_factory(*, num_steps, **hyperparameters):
    """Returns Adam of the house."""
    return BASELINES["adam"].build(num_steps=num_steps, **hyperparameters)


def small_adam(*, num_steps, info, **hyperparameters):
    del info
    return tx_factory(num_steps=num_steps, **hyperparameters)


SMALL = Baseline(small_adam, {"learning_rate": Range(0.1, 1.0)}, {"learning_rate": 0.3})


def plain(*, num_steps):
    """Returns what anyone might bring along; its schedule needs a Python number."""
    return optax.adam(optax.cosine_decay_schedule(0.3, num_steps))


def judged(optimizers, **changes):
    """Returns results of `evaluate` on the classifiers, of few trials and seeds."""
    arguments = {
        "suite": {"toy": (family(), STEPS)},
        "seeds": SEEDS,
        "tuning": TUNING,
        "reference": None,
        "looks": LOOKS,
        "say": lambda line: None,
    }
    return evaluate(optimizers, **arguments | changes)
