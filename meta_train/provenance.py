"""Where a run comes from: the code and the machine that it began with."""

import os
from typing import Any

import jax

from evaluation import machine


def provenance() -> dict[str, Any]:
    """Returns the revision of this code and the hardware, as cards name them."""
    return {"code_revision": machine.revision(), "hardware": hardware()}


def hardware() -> str:
    """Returns the devices that this process computes on, in words."""
    device = jax.devices()[0]
    on_cpu = device.platform == "cpu"
    kind = machine.processor() if on_cpu else device.device_kind
    cores = f", {os.cpu_count()} cores" if on_cpu else ""
    return f"{jax.device_count()} x {kind}{cores}"
