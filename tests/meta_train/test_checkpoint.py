"""Checkpoints: an exact round trip, and damage that never goes unseen."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import checkpoint


class State(NamedTuple):
    step: Any
    theta: Any
    key: Any


def state(step):
    theta = {"w": jnp.arange(12.0).reshape(3, 4) / 7 + step, "b": [jnp.ones(3)]}
    return State(step=jnp.int32(step), theta=theta, key=jax.random.key(step))


@pytest.fixture
def keeper(tmp_path):
    keeper = checkpoint.manager(tmp_path / "checkpoints", keep=3)
    for step in (10, 20, 30):
        checkpoint.save(keeper, step, state=state(step), notes={"seconds": step / 3})
    return keeper


def bits(tree):
    tree = tree._replace(key=jax.random.key_data(tree.key))
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def test_restored_state_is_bit_identical_and_keeps_its_types(keeper):
    found = checkpoint.restore(keeper, state(0))
    assert found.step == 30
    assert found.notes == {"seconds": 10.0}
    assert isinstance(found.state, State)
    assert jax.tree.structure(found.state) == jax.tree.structure(state(30))
    assert bits(found.state) == bits(state(30))


def test_nothing_saved_restores_to_nothing(tmp_path):
    assert checkpoint.restore(checkpoint.manager(tmp_path / "c", keep=2), {}) is None


def test_only_the_newest_are_kept(keeper):
    checkpoint.save(keeper, 40, state=state(40), notes={})
    assert sorted(keeper.all_steps()) == [20, 30, 40]


def test_a_saved_step_is_never_overwritten(keeper):
    checkpoint.save(keeper, 30, state=state(7), notes={})
    assert bits(checkpoint.restore(keeper, state(0)).state) == bits(state(30))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def delete(path):
    path.unlink()


def data_file(directory):
    return max(Path(directory).rglob("d/*"), key=lambda path: path.stat().st_size)


FILES = {
    "arrays": data_file,
    "tree": lambda directory: directory / "state" / "_METADATA",
    "notes": lambda directory: directory / "notes" / "metadata",
    "sums": lambda directory: directory / "SHA256SUMS",
}


@pytest.mark.parametrize("harm", [flip, truncate, delete])
@pytest.mark.parametrize("name", FILES)
def test_damage_is_named_and_the_newest_whole_step_restored(keeper, name, harm):
    file = FILES[name](Path(keeper.directory) / "30")
    harm(file)
    with pytest.warns(UserWarning, match="Damaged checkpoint passed over") as caught:
        found = checkpoint.restore(keeper, state(0))
    assert found.step == 20
    assert bits(found.state) == bits(state(20))
    if name != "sums":
        assert str(file) in str(caught[0].message)
    checkpoint.save(keeper, 30, state=state(30), notes={})
    assert checkpoint.restore(keeper, state(0)).step == 30


def test_an_empty_numeric_directory_is_not_a_step(keeper):
    (keeper.directory / "99").mkdir()
    again = checkpoint.manager(Path(keeper.directory), keep=3)
    with pytest.warns(UserWarning, match="99/SHA256SUMS: missing"):
        assert checkpoint.restore(again, state(0)).step == 30


def test_a_file_that_no_sum_vouches_for_is_damage(keeper):
    directory = Path(keeper.directory) / "30"
    assert checkpoint.damage(directory) is None
    (directory / "state" / "stray").write_text("")
    assert checkpoint.damage(directory) == (
        f"{directory}/state/stray: not listed in SHA256SUMS"
    )


def test_two_damaged_steps_fall_back_twice(keeper):
    for step in ("20", "30"):
        truncate(data_file(keeper.directory / step))
    with pytest.warns(UserWarning) as caught:
        assert checkpoint.restore(keeper, state(0)).step == 10
    assert len([w for w in caught if "Damaged" in str(w.message)]) == 2


def test_whole_steps_restore_without_a_warning(keeper):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        checkpoint.restore(keeper, state(0))
