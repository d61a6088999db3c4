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

from evaluation.runs import entrants
from evaluation.runs.fingerprints import program
from evaluation.runs.store import Store, opened
from lopt.baselines import BASELINES
from tests.evaluation.runs.test_curves import family

WHAT = {"optimizer": "a", "seed": 1, "hyperparameters": {"b": 2.0, "c": "x"}}


def arrays(value=1.0):
    return {"train": np.float32([value, np.nan, np.inf]), "test": np.zeros([])}


def test_what_is_put_is_found_by_what_it_is_of(tmp_path):
    with opened(tmp_path) as store:
        store.put([(WHAT, arrays())])
    with opened(tmp_path) as store:
        turned = dict(reversed(WHAT.items()))
        (found,) = store.get([turned]).values()
        assert store.get([WHAT | {"seed": 2}]) == {}
    for name, x in arrays().items():
        np.testing.assert_array_equal(found[name], x)
        assert found[name].dtype == x.dtype


def test_what_fails_half_way_leaves_nothing():
    store = Store()

    def broken():
        yield WHAT, arrays()
        raise OSError

    with pytest.raises(OSError):
        store.put(broken())
    assert store.get([WHAT]) == {}


def test_what_cannot_be_read_is_missing_and_replaced():
    store = Store()
    store.put([(WHAT, arrays())])
    with store.database:
        store.database.execute("UPDATE runs SET arrays = substr(arrays, 1, 40)")
    assert store.get([WHAT]) == {}
    store.put([(WHAT, arrays())])
    assert store.get([WHAT])


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "trials.sqlite").write_text("no database" * 100)
    with (
        pytest.raises(ValueError, match="holds no runs"),
        opened(tmp_path),
    ):
        pass


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
from tests.evaluation.runs.test_curves import family
for name in ("adam", "muon", "schedule_free_adamw", "prodigy"):
    contender = entrants.contender(BASELINES[name], family(), num_steps=6)
    print(entrants.facts(contender, family(), num_steps=6).program)
print(bench.place("toy", family(), num_steps=8, looks=4).program)
"""


@functools.cache
def hashes(seed, terminal=False):
    found = ":".join([".", os.environ.get("PYTHONPATH", "")])
    environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": found, "JAX_PLATFORMS": "cpu"}
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
