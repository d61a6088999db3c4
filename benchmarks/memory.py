"""Measures what rematerialising the full gradient saves: `python -m benchmarks.memory`.

It is that of one run of the demo's rule on the digits MLP, of 2,000 steps or of as many
as the argument says; the compiler says how much memory each program needs.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from configs import demo
from lopt import rules
from meta_train.inner import options
from meta_train.sections import complete
from tasks import families

KEY, REPEATS = jax.random.key(1), 3


def compiled(num_steps: int) -> tuple[Callable[[], Any], jax.stages.Compiled]:
    """Returns a call of the program of a whole run's gradient, and the program."""
    c = complete(demo.get_config(""))
    rule = rules.build(c["rule"]["name"], **c["rule"]["args"])
    family = families.build(c["family"]["name"], **c["family"]["args"])
    args = c["inner"] | {"horizon": (num_steps, num_steps)}
    inner = options.inner(rule=rule, family=family, **args)

    def value(theta, data):
        worker = inner.fresh(theta, data, KEY, jnp.int32(0))
        return inner.run(theta, worker, data, KEY)[1].objective.mean()

    theta = rule.init(KEY)
    program = jax.jit(jax.value_and_grad(value)).lower(theta, family.data).compile()
    return lambda: jax.block_until_ready(program(theta, family.data)), program


def main() -> None:
    """Prints memory and median seconds of both programs, and their ratios."""
    num_steps = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
    found = {"rematerialised": compiled(num_steps)}
    with mock.patch.object(jax, "checkpoint", lambda function: function):
        found["plain"] = compiled(num_steps)
    memory = {n: p.memory_analysis().temp_size_in_bytes for n, (_, p) in found.items()}
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(REPEATS + 1):  # the first of each warms up
        for name, (run, _) in found.items():
            began = time.monotonic()
            run()
            seconds[name].append(time.monotonic() - began)
    times = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    for name in found:
        print(f"{name}: {memory[name] / 1e6:.1f} MB, {times[name]:.2f} s")
    ratios = [x["rematerialised"] / x["plain"] for x in (memory, times)]
    print(f"ratios: {ratios[0]:.4f} of the memory, {ratios[1]:.2f} of the time")


if __name__ == "__main__":
    main()
