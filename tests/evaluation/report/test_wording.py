"""Words of a report: what is a bound, and who leads."""

import pytest
from results import results_summary

from evaluation.report import wording
from evaluation.statistics import Interval


@pytest.mark.parametrize("censored, words_", [(0.25, ""), (0.26, "at least ")])
def test_a_speedup_is_a_bound_where_more_than_the_trimmed_quarter_is_censored(
    censored, words_
):
    one = (
        results_summary()
        .standings["mine"]
        ._replace(censored=censored, censored_constant=1.0)
    )
    assert wording.least(one) == wording.least(one, "speedup_seconds") == words_
    assert wording.least(one, "speedup_constant") == "at least "
    one = one._replace(censored=1.0, censored_constant=censored)
    assert wording.least(one, "speedup_constant") == words_
    assert wording.least(one, "loss_ratio") == ""


def test_the_best_is_bold_where_its_interval_is_beyond_all_others():
    one = Interval(1.5, 1.0, 2.0)
    apart, touching = Interval(2.5, 2.1, 3.0), Interval(2.5, 2.0, 3.0)
    assert wording.leader({"a": one, "b": apart}, -1) == "a"
    assert wording.leader({"a": one, "b": apart}, 1) == "b"
    assert wording.leader({"a": one, "b": touching}, -1) is None
    assert (
        wording.leader({"a": one, "b": apart, "c": Interval(5.0, 0.0, 9.0)}, -1) is None
    )
    assert wording.leader({"a": one, "b": None}, -1) is None  # it stands alone
