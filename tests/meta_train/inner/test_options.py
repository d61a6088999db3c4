"""Settings of inner training that cannot be, refused by what would mend them."""

import pytest
import toys


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(fresh=0.0), r"in \(0, 1\]"),
        (dict(fresh=1.5), r"in \(0, 1\]"),
        (dict(fresh=0.2, horizon=(3, 9)), "at least a window"),
        (dict(fresh=0.2, reduce="min"), "try reduce='mean'"),
    ],
)
def test_buffers_that_cannot_be_are_refused(changes, message):
    settings = dict(window=4, horizon=(4, 9)) | changes
    with pytest.raises(ValueError, match=message):
        toys.inner(toys.heavy_ball(), toys.quadratic(), **settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(window=0), "need window >= 1"),
        (dict(window=(5, 4)), "1 <= low <= high of it"),
        (dict(horizon=(9, 4)), "1 <= low <= high of horizon"),
        (dict(horizon=(4, 9, 10)), "horizon must be two integers"),
        (dict(growth=-1), "growth must be at least 0"),
        (dict(valid_weight=1.5), "valid_weight must be in"),
        (dict(log_offset=0.0), "log_offset must be positive or None"),
        (dict(reduce="means"), "Did you mean 'mean'"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    settings = dict(window=4, horizon=(4, 9)) | changes
    with pytest.raises(ValueError, match=message):
        toys.inner(toys.drift(), toys.quadratic(), **settings)


def test_one_length_of_windows_is_a_range_and_splits_without_weight_are_left_out():
    args = dict(window=4, horizon=(4, 9))
    plain, both = (
        toys.inner(toys.drift(), toys.quadratic(), valid_weight=x, **args)
        for x in (0.0, 0.25)
    )
    assert plain.windows == (4, 4) and plain.horizon == (4, 9)
    assert plain.shares == {"train": 1.0}
    assert both.shares == {"train": 0.75, "outer_valid": 0.25}
