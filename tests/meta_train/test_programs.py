"""Programs compile side by side; those that are equal share one, and no others do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import programs

DATA = {"x": jnp.arange(3.0), "y": jnp.ones(3)}
NUMBERS = jnp.arange(1_000.0)


def shared(functions, data=DATA):
    """Returns jitted functions after they were compiled."""
    jitted = [jax.jit(function, keep_unused=True) for function in functions]
    return programs.compiled(jitted, [x.trace(data) for x in jitted])


def adding(constant):
    return lambda data: data["x"] + jnp.sum(constant)


def test_equal_programs_are_one_whoever_wrote_them():
    first, second = shared([lambda data: 2 * data["x"], lambda d: 2 * d["x"]])
    assert first is second and first._cache_size() == 0
    np.testing.assert_array_equal(second(DATA), [0, 2, 4])
    assert first._cache_size() == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda data: 3 * data["x"],
        lambda data: 2 * data["y"],
        lambda data: {"x": 2 * data["x"]},
    ],
)
def test_programs_that_differ_at_all_are_two(other):
    first, second = shared([lambda data: 2 * data["x"], other])
    assert first is not second
    np.testing.assert_array_equal(
        jax.tree.leaves(second(DATA))[0], *jax.tree.leaves(other(DATA))
    )


@pytest.mark.parametrize("place", [0, 500, 999])
def test_programs_of_other_constants_are_two(place):
    first, second = shared([adding(NUMBERS), adding(NUMBERS.at[place].set(-1.0))])
    assert first is not second


def test_a_program_that_fails_to_compile_says_so():
    with pytest.raises(Exception, match="no_such_target"):
        call = jax.ffi.ffi_call("no_such_target", jax.ShapeDtypeStruct([3], float))
        shared([lambda data: call(data["x"])])
