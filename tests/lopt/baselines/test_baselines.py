"""The table of baselines: what is tuned of each, where, and around which defaults."""

import inspect

from baseline_run import every

from lopt.baselines import BASELINES
from lopt.baselines.spaces import Range
from lopt.schedules import SCHEDULES


def test_only_schedule_free_is_judged_elsewhere():
    judged = {name for name, row in BASELINES.items() if row.eval_params}
    assert judged == {"schedule_free_adamw"}


@every
def test_spaces_are_of_arguments_and_hold_the_defaults(name):
    _, space, defaults, *_ = BASELINES[name]
    arguments = inspect.signature(BASELINES[name].build).parameters
    assert space.keys() == defaults.keys() <= arguments.keys()
    assert "learning_rate" in space and "warmup" in space
    for key, values in space.items():
        if isinstance(values, Range):
            assert values.low <= defaults[key] <= values.high
        else:
            assert defaults[key] in values
    for key in space.keys() - {"learning_rate", "schedule", "warmup"}:
        assert arguments[key].default == defaults[key]


@every
def test_rates_span_decades_and_every_schedule_is_tried(name):
    space = BASELINES[name].space
    assert space["learning_rate"].high / space["learning_rate"].low >= 100
    has_none = name == "schedule_free_adamw"
    assert space.get("schedule") == (None if has_none else tuple(SCHEDULES))


def test_baselines_are_of_files_whose_tests_compare_all_that_they_have():
    files = {x.build.__module__ for x in BASELINES.values()}
    assert files == {f"lopt.baselines.{x}" for x in ("contrib", "hand_designed")}
