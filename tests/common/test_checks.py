"""Values out of range are refused with their key, before anything is begun.

Keys are taken from the configs themselves, so that a new one is tried too.
"""

import copy
import functools
import math

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from toys import family_of

import meta_train.build
from common import checks, settings
from evaluation import __main__ as command
from evaluation.protocol import evaluate
from evaluation.runs.tuning import Tuning
from meta_train import sections

# What configs leave out, so that each number has a value to begin with.
LEFT_OUT = {
    ("inner", "log_offset"): 0.1,
    ("inner", "schedule"): {"name": "linear", "peak": 0.1, "warmup": 0.1},
    ("validation", "log_offset"): 0.1,
    ("validation", "every"): 20,
}
IMITATION = {"hold": 1, "decay": 1, "direction": 0.5, "magnitude": 0.2, "floor": 0.3}
ADAMW = {"name": "adamw", "args": {"learning_rate": 0.1, "weight_decay": 0.1}}
SECTIONS = ("outer", "inner", "estimator", "log", "checkpoint", "validation")
NEVER_ZERO = """num_steps learning_rate clip window horizon lengths log_offset fresh
last num_seeds num_workers sigma baseline_steps span steps step_size""".split()
NO_STEPS = {("log", "every"), ("checkpoint", "every")}


@functools.cache
def config(estimator):
    """Returns a config whose every number is set, by the sections that it is in."""
    c = sections.complete(tiny.get_config(estimator))
    for (section, key), value in LEFT_OUT.items():
        c[section][key] = value
    if estimator == "truncated":
        c["inner"]["imitation"] = IMITATION | {"expert": ADAMW}
    if estimator == "implicit":
        c["estimator"]["args"]["solver"] |= {"name": "neumann", "step_size": 0.1}
    if estimator in ("es", "pes"):
        c["estimator"]["args"]["noise"]["clip"] = 1.0
    return c


def places(section, path=()):
    """Yields where numbers and flags are."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from places(value, (*path, key))
        elif isinstance(value, int | float | tuple) and value != ():
            yield (*path, key)


def cases():
    """Returns (estimator, path), each path once."""
    found = {}
    for estimator in tiny.estimators():
        c = config(estimator)
        paths = places({name: c[name] for name in SECTIONS})
        found |= {path: estimator for path in paths if path not in found}
    return [(estimator, path) for path, estimator in found.items()]


CASES = cases()


def refused(estimator, path, value):
    c = copy.deepcopy(config(estimator))
    section = c
    for key in path[:-1]:
        section = section[key]
    old = section[path[-1]]
    section[path[-1]] = (value,) * len(old) if isinstance(old, tuple) else value
    with pytest.raises(ValueError) as error:
        meta_train.build.build(c)
    assert path[-1] in str(error.value), value


def bad_values(estimator, path):
    value = config(estimator)
    for key in path:
        value = value[key]
    if isinstance(value, bool):
        return [1, "yes", None, math.nan]
    zero = path[-1] in NEVER_ZERO or path in NO_STEPS
    return [-1, -0.5, math.nan, math.inf, True, "3", *[0] * zero]


@pytest.mark.parametrize(("estimator", "path"), CASES, ids=map(str, CASES))
def test_values_out_of_range_are_refused_with_their_key(estimator, path):
    for value in bad_values(estimator, path):
        refused(estimator, path, value)


@pytest.mark.parametrize("estimator", tiny.estimators())
def test_the_configs_are_fine_as_they_are(estimator):
    meta_train.build.build(config(estimator))


FINE = Tuning("search", 4, (1, 2))._asdict()


@pytest.mark.parametrize("value", [-1, math.nan, True, "3", 1.5])
@pytest.mark.parametrize("key", ["trials", "seeds", "learned"])
def test_tuning_out_of_range_is_refused(key, value):
    bad = FINE | {key: (value, 2) if key == "seeds" else value}
    toy = {"toy": (family_of(lambda x, b: x.sum(), [1.0]), 8)}
    with pytest.raises(ValueError, match=key):
        evaluate("adam", toy, (3, 4), tuning=Tuning(**bad), looks=4)


# Other types are none of the annotated ones, which are checked in tests.
@pytest.mark.parametrize("value", [-1, 0, True])
@pytest.mark.parametrize("key", ["seeds", "looks", "reference_lengths", "num_steps"])
def test_evaluation_out_of_range_is_refused(key, value):
    toy = family_of(lambda x, b: x.sum(), [1.0])
    fine = {"seeds": 3, "looks": 4, "reference_lengths": 1, "num_steps": 8}
    one = fine | {key: -1 if (key, value) == ("seeds", 0) else value}
    with pytest.raises(ValueError, match=key):
        evaluate(
            "adam",
            {"toy": (toy, one["num_steps"])},
            (one["seeds"], 4),
            tuning=Tuning(**FINE),
            looks=one["looks"],
            reference_lengths=(one["reference_lengths"],),
        )


@pytest.mark.parametrize("value", [math.nan, True, "8", 8.5, [8], jnp.array(True)])
def test_what_is_no_whole_number_is_refused(value):
    fine = (3, np.int32(4), jnp.int32(5))
    assert checks.wholes("seeds", fine, least=3) == (3, 4, 5)
    with pytest.raises(ValueError, match="seeds must be whole numbers from 3, got"):
        checks.wholes("seeds", (*fine, value), least=3)


@pytest.mark.parametrize("value", [math.nan, True, "3", 1.5])
@pytest.mark.parametrize("key", ["looks", "seeds", "reference_lengths"])
def test_evaluation_s_config_is_of_the_types_that_it_is_read_by(tmp_path, key, value):
    c = settings.resolve(tiny.runpy.run_path("configs/evaluate.py")["get_config"]())
    plural = {"seeds": (value, 3), "reference_lengths": (value,)}
    c[key] = plural.get(key, value)
    with pytest.raises(ValueError, match=f"config.{key}"):
        settings.call(command.judge, "config", c, workdir=tmp_path)
