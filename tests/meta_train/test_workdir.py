"""A work directory is of one config, whatever options are added later."""

import pytest
import tiny

from meta_train.sections import complete
from meta_train.workdir import OtherConfig, claim, refuse_other


def test_workdir_of_another_config_is_refused_with_the_differing_keys(tmp_path):
    here = complete(tiny.get_config())
    claim(tmp_path, here)
    claim(tmp_path, here)
    there = (tmp_path / "config.json").read_text()
    other = complete(tiny.get_config("pes"))
    with pytest.raises(OtherConfig) as error:
        claim(tmp_path, other | {"seed": 7})
    lines = str(error.value).splitlines()[1:]
    keys = [line.split(":")[0].strip() for line in lines]
    assert keys == ["estimator.args.noise", "estimator.name", "seed"]
    assert (tmp_path / "config.json").read_text() == there


def test_a_key_that_one_config_lacks_differs_and_completing_mends_it(tmp_path):
    claim(tmp_path, {"a": 1})
    with pytest.raises(OtherConfig, match="b: 'absent' there, 2 here"):
        claim(tmp_path, {"a": 1, "b": 2})
    claim(tmp_path, {"a": 1, "b": 2}, complete=lambda config: {"b": 2, **config})


def test_sections_are_compared_key_by_key():
    there, here = {"x": {"y": 1, "z": [1, 2]}}, {"x": {"y": 1, "z": (1, 3)}}
    refuse_other(there, there | {"x": {"z": (1, 2), "y": 1}}, where="here")
    with pytest.raises(OtherConfig, match="^here is of another.*:\n  x.z: ") as error:
        refuse_other(there, here, where="here")
    assert len(str(error.value).splitlines()) == 2
