"""Tries bounds and warm-ups on a rule as it is, on networks as users make them.

    python -m benchmarks.bounds configs/release/mu_mlp_third

Prints how runs on the tasks of `valid-v2` in standard parametrization end, as
meta-validation has it, and how far losses rise above that at init. Minutes on 2 cores.
"""

import argparse
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax

import lopt
from lopt import mup, rules, schedules
from tasks import base, suites

SEEDS = (10_000, 10_001)
GRID = [  # bound and warm-up; 1e9 is none
    *((1e9, warmup) for warmup in (0.0, 0.05, 0.1)),
    *((5.0, warmup) for warmup in (0.0, 0.02, 0.05, 0.1, 0.2)),
    *((bound, 0.05) for bound in (3.0, 10.0, 20.0)),
]
OFFSET, TAIL = 0.01, 0.1  # as in configs/release


def losses(artifact: Any, entry: suites.Entry, grid: Sequence[Any]) -> np.ndarray:
    """Returns training losses [2, grid, seeds, steps], normalised ones and as they are.

    Normalised ones are after an update, on the next batch; others before it.
    """
    family, length = suites.family(entry), entry.num_steps
    args = artifact.card["rule"]["args"] | {"axes": "fans"}
    peak = artifact.card["schedule"] | {"num_steps": length}
    scaling = mup.scale_updates(mup.infer(family.shapes, family.base_shapes))

    def run(bound: Any, warmup: Any, seed: Any) -> Any:
        rule = rules.build("mlp", **args | {"bound": bound})
        rate = schedules.build(**peak | {"warmup": warmup})
        tx = rule.bind(artifact.theta, num_steps=length)
        tx = optax.chain(tx, scaling, optax.scale_by_schedule(rate))
        draw_key, init_key, keys = jax.random.split(jax.random.key(seed), 3)
        task = family.task(family.sample(draw_key))
        params = task.init(init_key)

        def step(carry: Any, key: Any) -> Any:
            params, state, carried = carry
            now, loss_key, later, later_key = jax.random.split(key, 4)
            batch = task.batch(family.data, now, "train")
            before, carried, grads = base.gradient(
                task, params, loss_key, batch, carried
            )
            updates, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, updates)
            batch = task.batch(family.data, later, "train")
            after, _ = base.loss(task, params, later_key, batch, carried)
            return (params, state, carried), (task.normalise(after), before)

        start = params, tx.init(params), task.state
        return jax.lax.scan(step, start, jax.random.split(keys, length))[1]

    bounds, warmups = np.array(grid).T
    each = [np.repeat(x, len(SEEDS)) for x in (bounds, warmups)]
    seeds = np.tile(SEEDS, len(grid))
    found = jax.jit(lambda *x: jax.lax.map(lambda row: run(*row), x))(*each, seeds)
    return np.reshape(found, (2, len(grid), len(SEEDS), length))


def judged(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ends of runs, [grid], and their greatest rise above the start."""
    after, before = found
    tail = math.ceil(TAIL * after.shape[-1])
    ends = np.log(OFFSET + after[..., -tail:]).mean((1, 2))
    rise = np.nan_to_num(before / before[..., :1], nan=np.inf)
    return ends, rise.max((1, 2))


def main(args: Sequence[str] | None = None) -> None:
    """Prints a line for each bound and warm-up, once all tasks were tried."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact")
    artifact = lopt.read(parser.parse_args(args).artifact)
    tasks = {k: x for k, x in suites.SUITES["valid-v2"].items() if "standard" in k}
    found = []
    for name, entry in tasks.items():
        found.append(judged(losses(artifact, entry, GRID)))
        print(name, *(np.round(x, 2) for x in found[-1]), flush=True)
    ends, rises = np.mean([x for x, _ in found], 0), np.max([x for _, x in found], 0)
    for (bound, warmup), end, rise in zip(GRID, ends, rises, strict=True):
        print(f"bound {bound:g}, warm-up {warmup:g}: {end:.3f}, {rise:.2f} times")


if __name__ == "__main__":
    main()
