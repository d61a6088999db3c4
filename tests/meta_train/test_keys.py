"""Every key of every config is explained, with its default."""

import re

import pytest
import tiny

from meta_train import keys, sections

TEXT = "\n".join(keys.lines())


def paths(config, prefix="config"):
    for key, value in config.items():
        if isinstance(value, dict) and key not in ("weights", "vary", "expert"):
            yield from paths(value, f"{prefix}.{key}")
        else:
            yield key


@pytest.mark.parametrize("variant", ["", "pes", "bootstrapped_pes", "implicit"])
def test_keys_of_the_demo_are_explained(variant):
    for key in set(paths(sections.complete(tiny.demo(variant)))) - {"args"}:
        assert re.search(rf"\b{key}\b( =| \(|\.name|:|  )", TEXT), key


def test_every_key_has_a_meaning():
    entries = re.findall(r"^  (\w+)(?: = .*)? \(.*\)  (.*)$", TEXT, re.M)
    silent = {key for key, meaning in entries if not meaning}
    assert len(entries) > 100
    assert silent <= {"learning_rate", "weight_decay", "vary"}, silent
