"""What several processes agree on; tests/journeys/test_hosts.py starts them."""

import signal

import jax
import jax.numpy as jnp
import pytest

from common import command_line
from meta_train import __main__ as command
from meta_train import hosts


@pytest.fixture
def answers(monkeypatch):
    """Returns a function that says what the other processes will answer."""

    def given(*others):
        numbers = iter(others)
        monkeypatch.setattr(hosts, "gathered", lambda own: [own, next(numbers)])
        monkeypatch.setattr(hosts, "wait", lambda: None)
        monkeypatch.setattr(jax, "process_count", lambda: 2)

    return given


def test_one_process_asks_itself(tmp_path):
    assert hosts.gathered(2**32 - 1) == [2**32 - 1]
    hosts.check_same(config={"seed": 0})
    hosts.check_shared(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("workers", "flags", "count"),
    [
        (6, "", 3),
        (8, "", 4),
        (7, "", 1),
        (None, "", None),
        (8, "--xla_force_host_platform_device_count=2", None),
    ],
)
def test_cores_are_devices_that_share_the_workers(monkeypatch, workers, flags, count):
    found = {}
    monkeypatch.setattr(hosts.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(hosts.jax.config, "update", found.__setitem__)
    monkeypatch.setenv("XLA_FLAGS", flags)
    hosts.spread(workers)
    assert found == ({} if count is None else {"jax_num_cpu_devices": count})


@pytest.mark.parametrize(
    ("given", "absent"),
    [
        (("localhost:1", None, 0), "--num_processes"),
        ((None, None, 0), "--coordinator_address and --num_processes"),
    ],
)
def test_a_part_of_the_flags_is_refused(given, absent):
    with pytest.raises(ValueError, match=f"also needs {absent}\\.$"):
        hosts.join(*given)


def test_another_config_is_refused_by_every_process(answers):
    answers(0)
    with pytest.raises(ValueError, match="config of process 1 is not the config"):
        hosts.check_same(config={"seed": 0})


def test_a_work_directory_that_is_not_shared_is_refused(answers, tmp_path):
    answers(0, 0)
    with pytest.raises(ValueError, match=f"process 1 does not see .* in {tmp_path};"):
        hosts.check_shared(tmp_path)
    assert not list(tmp_path.iterdir())


def test_checksums_see_values_types_and_names():
    trees = [{"a": 1}, {"a": 2}, {"b": 1}, {"a": None}, {"a": "1"}, {"a": (1,)}]
    trees += [{"a": jnp.ones(2)}, {"a": jnp.zeros(2)}]
    assert len({hosts._digest(tree) for tree in trees}) == len(trees)
    assert hosts._digest({"a": 1}) == hosts._digest({"a": 1})


def test_a_signal_to_another_process_stops_this_one_too(answers):
    before = {x: signal.getsignal(x) for x in command_line.CODES}
    ended = command.Ended()
    for number, handler in before.items():
        signal.signal(number, handler)
    answers(0, signal.SIGTERM)
    assert [ended(), ended()] == [False, True]
    assert ended.number == signal.SIGTERM


def test_errors_of_a_single_process_are_raised_as_ever():
    with pytest.raises(OSError), hosts.ended_together():
        raise OSError
