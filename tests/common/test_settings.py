"""Settings are completed with defaults, checked, and built where they are nested."""

import dataclasses

import pytest

from common import settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise:
    sigma: float = 0.1
    pairs: dict = dataclasses.field(default_factory=lambda: {"n": 2})


def builder(*, size: int, noise: Noise = Noise(sigma=0.3), lead: Noise | None = None):  # noqa: B008
    return size, noise, lead


FULL = {"size": 1, "noise": {"sigma": 0.3, "pairs": {"n": 2}}, "lead": None}


def test_defaults_are_written_out_also_those_of_nested_settings():
    assert settings.complete(builder, {"size": 1}) == FULL
    partly = settings.complete(builder, {"size": 1, "noise": {"sigma": 1.0}})
    assert partly == FULL | {"noise": {"sigma": 1.0, "pairs": {"n": 2}}}
    assert settings.complete(builder, FULL) == FULL


def test_what_is_given_or_unknown_is_left_as_it_is():
    assert settings.complete(builder, {"sise": 1}, given=["noise", "lead"]) == {
        "sise": 1
    }
    assert settings.complete(builder, 0.1) == 0.1


def test_nested_settings_are_built():
    size, noise, lead = settings.call(builder, "config", FULL | {"lead": {"sigma": 2}})
    assert (size, noise, lead) == (1, Noise(sigma=0.3), Noise(sigma=2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise": {"sgma": 1.0}}, "config.noise has no key 'sgma'; did you mean 'si"),
        ({"noise": None}, "config.noise must hold keys and values, got None"),
        ({"lead": 0.1}, "config.lead must hold keys and values, got 0.1"),
        ({"noise": {"sigma": "x"}}, "config.noise.sigma must be a finite number"),
    ],
)
def test_bad_nested_settings_are_refused_by_their_key(changes, message):
    with pytest.raises(ValueError, match=message):
        settings.call(builder, "config", FULL | changes)


def test_a_new_name_leaves_the_arguments_of_the_old_builder():
    def find(name):
        return {"a": builder}[name]

    section = {"name": "a", "args": {"size": 2, "of_another": 1}}
    assert settings.complete_named(find, section, renamed=True)["args"] == FULL | {
        "size": 2
    }
    assert "of_another" in settings.complete_named(find, section)["args"]
