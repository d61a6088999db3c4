"""Counts what devices send each other, and models the rest: see docs/howto/scale.md.

    python -m benchmarks.scaling [CONFIG] [DEVICES]

It compiles a meta-step of a config's first family for so many devices, forced on the
CPU, with a worker each. What its all-reduces carry is read from the program; the
efficiency of many devices follows from that, on the assumptions below.
"""

import math
import re
import runpy
import sys
from collections.abc import Iterator
from typing import NamedTuple

import jax

from meta_train.build import build

LATENCY = 10e-6  # seconds from one device to the next
BANDWIDTH = 10e9  # bytes a second and device
STOPPING = 1e-3  # seconds in which processes agree on whether to stop
COLLECTIVES = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
BYTES = {"pred": 1, "s32": 4, "u32": 4, "f32": 4}


class Collective(NamedTuple):
    """What one collective of a compiled program carries.

    Attributes:
      kind: such as "all-reduce".
      size: in bytes.
      looped: whether it is inside a loop, or any other called computation.
    """

    kind: str
    size: int
    looped: bool


def collectives(program: str) -> list[Collective]:
    """Returns the collectives in the text of a compiled program."""
    entry = program.index("\nENTRY")
    found = re.finditer(rf"= (.*?) ({COLLECTIVES})(?:-start)?\(", program)
    return [Collective(x[2], _size(x[1]), x.start() < entry) for x in found]


def _size(shapes: str) -> int:
    """Returns the bytes of arrays as in `(f32[4,2]{1,0}, s32[])`."""
    arrays = re.findall(r"(\w+)\[([\d,]*)\]", shapes)
    return sum(BYTES[kind] * math.prod(_numbers(dims)) for kind, dims in arrays)


def _numbers(dims: str) -> list[int]:
    return [int(x) for x in dims.split(",") if x]


def efficiency(
    devices: int, seconds: float, sizes: list[int], *, ring: bool = False
) -> float:
    """Returns the share of the time of a meta-step in which devices compute.

    Args:
      devices: number of them.
      seconds: of a meta-step on one device.
      sizes: of all-reduces, in bytes.
      ring: whether an all-reduce passes every device, rather than a tree of them.
    """
    hops = devices - 1 if ring else math.ceil(math.log2(devices))
    sent = 2 * (devices - 1) / devices
    times = [2 * hops * LATENCY + sent * size / BANDWIDTH for size in sizes]
    return seconds / (seconds + sum(times) + STOPPING * (devices > 1))


def counted(path: str, devices: int) -> tuple[int, list[Collective]]:
    """Returns the size of theta, and the collectives of a meta-step of a config."""
    config = runpy.run_path(path)["get_config"]()
    config.estimator.num_workers = devices
    run = build(config)
    state = jax.eval_shape(run.learner.init, run.data)
    lowered = run.learner.trace(run.data)[0].lower()
    theta = sum(x.size for x in jax.tree.leaves(state.theta))
    return theta, collectives(lowered.compile().as_text())


def table(sizes: list[int]) -> Iterator[str]:
    """Yields the lines of a Markdown table of efficiencies."""
    yield "| devices | tree, 0.1 s | tree, 1 s | ring, 0.1 s | ring, 1 s |"
    yield "|---|---|---|---|---|"
    for devices in (8, 64, 512, 4_096, 10_000):
        shares = [
            efficiency(devices, seconds, sizes, ring=ring)
            for ring in (False, True)
            for seconds in (0.1, 1.0)
        ]
        cells = [f"{devices:,}", *(f"{100 * share:.1f}%" for share in shares)]
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints the counts and the model."""
    path = sys.argv[1] if len(sys.argv) > 1 else "configs/demo.py"
    devices = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    jax.config.update("jax_num_cpu_devices", devices)
    theta, found = counted(path, devices)
    print(f"{devices} devices, theta of {theta} floats")
    for x in found:
        print(f"{x.kind} of {x.size} bytes" + ", in a loop" * x.looped)
    print("\n".join(table([x.size for x in found])))


if __name__ == "__main__":
    main()
