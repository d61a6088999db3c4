"""Hashes of programs and arrays: alike in every process, others for what differs."""

import contextlib
import functools
import os
import pty
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from places import PYTHONPATH
from toy_evaluation import family

from evaluation.runs import entrants
from evaluation.runs.fingerprints import arrays_hash, program
from lopt.baselines import BASELINES


def scaled(weights, inner):
    """Returns a function that multiplies by weights, at some depth of the program."""
    wrap = {
        "plain": lambda f: f,
        "jit": jax.jit,
        "vmap": jax.vmap,
        "cond": lambda f: lambda x: jax.lax.cond(x.sum() > 0, f, lambda x: x, x),
        "nested": lambda f: jax.jit(jax.vmap(jax.jit(f))),
        "grad": lambda f: jax.grad(lambda x: f(x).sum()),
    }[inner]
    return wrap(lambda x: x * weights)


@pytest.mark.parametrize("inner", ["plain", "jit", "vmap", "cond", "nested", "grad"])
def test_programs_differ_by_their_weights(inner):
    x, a = jnp.ones(3), jnp.float32(2.0)
    a, b = (
        jnp.full(3 if "v" not in inner and inner != "nested" else (), a)
        for a in (2.0, 3.0)
    )
    first, again, other = (program(scaled(w, inner), x) for w in (a, a, b))
    assert first == again != other


def test_programs_differ_by_numbers_operations_and_shapes():
    x = jnp.ones(3)
    variants = [
        program(lambda x: x * 0.1, x),
        program(lambda x: x * 0.1000001, x),
        program(lambda x: x + 0.1, x),
        program(lambda x: x * 0.1, jnp.ones(4)),
    ]
    assert len({*variants}) == 4


def test_arrays_differ_by_numbers_types_shapes_and_names():
    x = np.arange(4.0)
    variants = [{"a": x}, {"a": x + 1}, {"a": np.float32(x)}, {"b": x}]
    variants += [{"a": x.reshape(2, 2)}, *({"a": jax.random.key(i)} for i in (0, 1))]
    assert arrays_hash({"a": x.copy()}) == arrays_hash({"a": x})
    assert len({*map(arrays_hash, variants)}) == len(variants)


def facts(entrant):
    (entrant,) = entrants.by_name(entrant).values()
    contender = entrants.contender(entrant, family(), num_steps=6)
    return entrants.facts(contender, family(), num_steps=6).program


def test_optimizers_differ_by_settings_and_not_by_name():
    a, b = optax.adam(0.1), optax.adam(0.2)
    assert facts(a) == facts(optax.adam(0.1)) != facts(b)
    everyone = [facts(baseline) for baseline in BASELINES.values()]
    # With no width to grow by, some are others: muP's, and Muon, all of it AdamW.
    assert len({*everyone}) >= len(BASELINES) - 3


HASHES = """
import jax
from evaluation.runs import bench, entrants
from lopt.baselines import BASELINES
from toy_evaluation import family
for name in ("adam", "muon", "schedule_free_adamw", "prodigy"):
    contender = entrants.contender(BASELINES[name], family(), num_steps=6)
    print(entrants.facts(contender, family(), num_steps=6).program)
print(bench.place("toy", family(), num_steps=8, looks=4).program)
"""


@functools.cache
def hashes(seed, terminal=False):
    given = {"PYTHONPATH": PYTHONPATH, "JAX_PLATFORMS": "cpu"}
    environment = {"PYTHONHASHSEED": seed} | given
    command = [sys.executable, "-c", HASHES]
    if terminal:
        environment["TERM"] = "xterm-256color"
        ours, theirs = pty.openpty()
        with subprocess.Popen(command, env=environment, stdout=theirs) as process:
            os.close(theirs)
            text = b""
            with contextlib.suppress(OSError):  # at the end of what was written
                while chunk := os.read(ours, 4096):
                    text += chunk
        os.close(ours)
        assert process.returncode == 0
        return text.decode().split()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


def test_hashes_are_those_of_any_other_process():
    assert len({*hashes("1")}) == 5 and hashes("1") == hashes("2")


def test_hashes_are_the_same_in_a_terminal():
    assert hashes("1", terminal=True) == hashes("1")
