"""Several processes that run one program: joined, checked and ended together.

Every process takes the same steps. Only the first one prints and writes journals and
the artifact; checkpoints are written by all of them.
"""

import contextlib
import os
import signal
import sys
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from common import command_line


def join(address: str | None, count: int | None, index: int | None) -> None:
    """Joins the processes that a launcher started; their devices become one list.

    Args:
      address: `host:port` of the first process.
      count: number of processes.
      index: place of this process, from 0.

    Raises:
      ValueError: if only some are given, if none is given and the launcher is not
        recognised, or if processes have different numbers of devices.
    """
    given = dict(coordinator_address=address, num_processes=count, process_id=index)
    absent = [f"--{name}" for name, value in given.items() if value is None]
    if 0 < len(absent) < len(given):
        raise ValueError(f"--distributed also needs {' and '.join(absent)}.")
    try:
        with _interruptible():
            jax.distributed.initialize(**given)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"--distributed: {error} Launchers that are not recognised need all of "
            f"{', '.join(f'--{name}' for name in given)}."
        ) from error
    devices = Counter(device.process_index for device in jax.devices())
    if len({*devices.values()}) > 1:
        raise ValueError(f"processes need equally many devices, got {dict(devices)}.")
    if not first():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")


def spread(workers: Any) -> None:
    """Has JAX see the cores of a CPU as devices, which share the workers.

    As many of them as divide the workers, if JAX has not begun yet, and unless
    JAX_NUM_CPU_DEVICES or XLA_FLAGS say how many there are.
    """
    known = "force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if known or jax.config.jax_num_cpu_devices >= 0 or workers not in range(1, 10**6):
        return
    count = max(n for n in range(1, (os.cpu_count() or 1) + 1) if not workers % n)
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", count)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM end the process at once, then catches them as before.

    JAX waits for other processes without looking, and keeps SIGTERM to itself after.
    """
    before = {x: signal.signal(x, signal.SIG_DFL) for x in command_line.CODES}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def first() -> bool:
    """Returns whether this process writes what exists once, such as metrics."""
    return jax.process_index() == 0


def gathered(number: int) -> list[int]:
    """Returns the numbers of all processes, each in [0, 2^32), in order."""
    return multihost_utils.process_allgather(np.uint32(number)).tolist()


def wait() -> None:
    """Waits until every process is here."""
    gathered(0)


def check_same(**trees: Any) -> None:
    """Raises ValueError in every process if one has other values than the first.

    Args:
      **trees: by name, pytrees of JSON values and of arrays that are not sharded.
    """
    for name, tree in trees.items():
        found = gathered(_digest(tree))
        other = [place for place, digest in enumerate(found) if digest != found[0]]
        if other:
            raise ValueError(
                f"the {name} of process {other[0]} is not the {name} of process 0; "
                "start every process with the same flags, files and revision."
            )


def check_shared(directory: Path) -> None:
    """Raises ValueError in every process if one does not see the first one's files.

    Args:
      directory: which the first process has made.
    """
    if jax.process_count() == 1:
        return
    mark = directory / f".shared-{gathered(time.time_ns() % 2**32)[0]}"
    if first():
        mark.touch()
    wait()
    there = gathered(mark.exists())
    if first():
        mark.unlink()
    if not all(there):
        raise ValueError(
            f"process {there.index(0)} does not see the files of process 0 in "
            f"{directory}; put --workdir on a file system that all processes share."
        )


@contextlib.contextmanager
def ended_together() -> Iterator[None]:
    """Ends this process at once if the block fails, so that the others end too.

    At a usual exit JAX waits for them, and they may be waiting for this process.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        known = isinstance(error, SystemExit)
        stopped = known and isinstance(error.code, int)  # which all processes are
        if stopped or not jax.distributed.is_initialized():
            raise
        print(error if known else traceback.format_exc(), file=sys.stderr, flush=True)
        os._exit(1)


def _digest(tree: Any) -> int:
    """Returns a checksum of a pytree."""
    digest = zlib.crc32(repr(jax.tree.structure(tree)).encode())
    for leaf in jax.tree.leaves(tree):
        digest = zlib.crc32(np.asarray(leaf).tobytes(), digest)
    return digest
