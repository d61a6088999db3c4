"""Two processes on this machine are one run, also when stopped, killed and resumed."""

import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from places import ROOT
from safetensors.numpy import load_file
from saved import bits

from meta_train import logging

TIMEOUT = 600  # seconds any one run may take
COMMAND = [sys.executable, "-m", "meta_train", "--config=tests/helpers/tiny.py"]
TWO = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"


def start(workdir, *flags, log="log", **env):
    """Starts a process of the run in `workdir`."""
    with workdir.with_suffix(f".{log}").open("a") as file:
        return subprocess.Popen(
            [*COMMAND, f"--workdir={workdir}", *flags],
            cwd=ROOT,
            env=os.environ | env,
            stdout=file,
            stderr=file,
        )


def start_two(workdir, *, slurm=False):
    """Starts two processes with a device each, by flags or as SLURM does."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    launch = by_slurm if slurm else by_flags
    return [launch(workdir, port, str(place)) for place in (0, 1)]


def by_flags(workdir, port, place):
    flags = f"--coordinator_address=localhost:{port}", f"--process_id={place}"
    return start(workdir, "--distributed", "--num_processes=2", *flags, log=place)


def by_slurm(workdir, port, place):
    job = {"JOB_ID": "7", "STEP_NODELIST": "localhost", "NTASKS": "2"}
    job |= {"PROCID": place, "LOCALID": place}
    env = {f"SLURM_{name}": value for name, value in job.items()}
    env["JAX_COORDINATOR_PORT"] = port
    return start(workdir, "--distributed", log=place, **env)


def ends(processes):
    return [process.wait(TIMEOUT) for process in processes]


def until(workdir, step):
    """Waits until a meta-step is in the metrics."""
    deadline, path = time.monotonic() + TIMEOUT, workdir / "metrics.jsonl"
    while not path.exists() or len(logging.read(path)) < step:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def metrics(workdir):
    return logging.read(workdir / "metrics.jsonl")


def test_two_processes_stopped_and_resumed_give_what_one_gives(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert ends([start(one, XLA_FLAGS=TWO)]) == [0]
    processes = start_two(two)
    until(two, 13)
    processes[1].send_signal(signal.SIGTERM)  # to one of them only
    assert ends(processes) == [0, 0]
    stopped = len(metrics(two))
    assert 13 <= stopped < 60
    said = two.with_suffix(".0").read_text().splitlines()
    assert said[-1] == f"Stopped by SIGTERM at meta-step {stopped}; saved."
    assert ends(start_two(two, slurm=True)) == [0, 0]
    for ours, theirs in zip(metrics(two), metrics(one), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    thetas = [load_file(x / "artifact" / "theta.safetensors") for x in (one, two)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *thetas)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_and_the_run_resumes_exactly(tmp_path, killed):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert ends(start_two(whole)) == [0, 0]
    processes = start_two(cut)
    until(cut, 25)
    processes[killed].kill()
    assert all(ends(processes))
    assert len(metrics(cut)) < 60
    assert ends(start_two(cut)) == [0, 0]
    assert bits(cut, 60) == bits(whole, 60)
    assert metrics(cut) == metrics(whole)
