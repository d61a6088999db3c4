"""AlgoPerf's scores, against those that its leaderboard and its paper print."""

import json

import numpy as np
import pytest
from places import DATA

from evaluation.scores import algoperf

DATA = json.loads((DATA / "algoperf_v05.json").read_text())
INF = np.inf


def numbers(rows):
    """Returns an array of JSON's numbers, with null as a miss."""
    values = np.array(rows, np.float64)
    return np.where(np.isnan(values), INF, values)


def medians(board, workloads):
    """Returns times [o, w] of a leaderboard, from its studies."""
    rows = [[row["seconds"][name] for name in workloads] for row in board.values()]
    return algoperf.study_time(numbers(rows)[..., None])


def pool(seed, *, optimizers=4, workloads=6):
    """Returns random times [o, w] with misses, and a last workload nobody solves."""
    rng = np.random.default_rng(seed)
    times = rng.lognormal(sigma=0.7, size=(optimizers, workloads))
    times = np.where(rng.random(times.shape) < 0.2, INF, times)
    times[:, -1] = INF
    return times


@pytest.mark.parametrize("ruleset", ["external", "self"])
def test_the_leaderboard_of_version_0_5_is_reproduced(ruleset):
    board, variants = DATA["leaderboards"][ruleset], DATA["variants"]
    names = DATA["paper"]["workloads"]
    held_out = [variants.get(name, name) for name in names]
    times = algoperf.admitted(medians(board, names), medians(board, held_out))
    published = [row["score"] for row in board.values()]
    np.testing.assert_allclose(algoperf.integral(times), published, atol=5e-5)
    np.testing.assert_allclose(algoperf.score(times), published, atol=2e-3)


@pytest.mark.parametrize("clock", ["seconds", "steps"])
def test_the_scores_of_the_paper_are_reproduced(clock):
    rows = DATA["paper"][clock].values()
    times = numbers([row["times"] for row in rows])
    published = [row["score"] for row in rows]
    # The paper integrates more finely than the leaderboard.
    np.testing.assert_allclose(algoperf.score(times), published, atol=3e-5)
    np.testing.assert_allclose(algoperf.integral(times), published, atol=2e-3)


@pytest.mark.parametrize("workload", DATA["reruns"])
def test_the_targets_of_the_paper_are_reproduced(workload):
    row = DATA["reruns"][workload]
    sign = -1 if row["higher_is_better"] else 1
    found = sign * algoperf.target(sign * np.array([row["values"]]))
    assert found == pytest.approx(row["target"], abs=1e-6)


def test_ratios_are_to_the_fastest_on_each_workload():
    times = np.array([[2.0, 9.0, INF], [6.0, 3.0, INF], [INF, 4.5, INF]])
    # Divided by 2, by 3, and by nobody's time.
    expected = [[1.0, 3.0, INF], [3.0, 1.0, INF], [INF, 1.5, INF]]
    np.testing.assert_array_equal(algoperf.ratios(times), expected)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
def test_times_that_are_none_are_refused(bad):
    with pytest.raises(ValueError, match="times must be above 0"):
        algoperf.ratios(np.array([[1.0, bad]]))


def test_the_profile_counts_workloads_within_a_ratio():
    times = np.array([[2.0, 9.0, INF], [6.0, 3.0, INF]])
    # Ratios 1, 3, inf and 3, 1, inf; the third is solved by nobody and counts.
    found = algoperf.profile(times, np.array([1.0, 2.9, 3.0, 100.0]))
    np.testing.assert_allclose(found, [[1 / 3, 1 / 3, 2 / 3, 2 / 3]] * 2)


def test_a_workload_adds_what_its_ratio_leaves_of_three():
    times = np.array([[1.0, 1.0, 5.0], [2.0, 1.0, 1.0], [3.0, INF, 4.0]])
    # Ratios 1, 1, 5 / 2, 1, 1 / 3, inf, 4: (3 + 3 + 0) / 9, (2 + 3 + 3) / 9, 1 / 9.
    np.testing.assert_allclose(algoperf.score(times), [6 / 9, 8 / 9, 1 / 9])


def test_workloads_that_nobody_solves_stay_in_the_mean():
    np.testing.assert_array_equal(algoperf.score(np.full([2, 3], INF)), [0, 0])
    solved = np.array([[1.0], [2.5]])
    both = np.concatenate([solved, np.full([2, 1], INF)], 1)
    for function in (algoperf.score, algoperf.integral):
        np.testing.assert_allclose(function(both), function(solved) / 2)


def test_alone_an_optimizer_scores_the_share_that_it_solves():
    times = np.array([[7.0, INF, 0.1, 1e9]])
    for function in (algoperf.score, algoperf.integral):
        np.testing.assert_allclose(function(times), [0.75])


def test_a_score_depends_on_the_pool():
    times = np.array([[1.0, 1.0], [2.0, 2.0]])
    np.testing.assert_allclose(algoperf.score(times), [1, 2 / 3])
    np.testing.assert_allclose(algoperf.score(times[1:]), [1])


@pytest.mark.parametrize("points", [4, 100, 3001])
@pytest.mark.parametrize("seed", range(5))
def test_the_integral_is_within_half_a_spacing_of_the_score(seed, points):
    times = pool(seed)
    found, bound = algoperf.integral(times, points), 0.5 / (points - 1)
    np.testing.assert_allclose(found, algoperf.score(times), rtol=0, atol=bound)


@pytest.mark.parametrize("scale", [1e-6, 3.0, 1e6])
def test_scores_ignore_the_unit_of_time(scale):
    times = pool(1)
    units = scale * np.arange(1, 1 + times.shape[1])  # each workload in its own
    np.testing.assert_allclose(algoperf.score(times * units), algoperf.score(times))
    np.testing.assert_allclose(
        algoperf.integral(times * scale), algoperf.integral(times)
    )


def test_admission_asks_for_workload_and_variant_within_four_times_the_fastest():
    times = np.array([[1.0, 1.0, 1.0], [5.0, 2.0, 4.0], [INF, 3.0, 2.0]])
    variants = np.array([[8.0, 1.0, INF], [8.0, 4.1, 3.0], [1.0, 4.0, 12.0]])
    # First: 5 is too late, and the variant's 1 does not count. Second: 4.1 is too late.
    # Third: a variant missed; the 3 is the fastest, and 12 is four times that.
    expected = [[1.0, 1.0, INF], [INF, INF, 4.0], [INF, 3.0, 2.0]]
    np.testing.assert_array_equal(algoperf.admitted(times, variants), expected)


def test_time_to_target_is_that_of_the_first_look_there():
    losses = np.random.default_rng(0).random([2, 3, 8])
    losses[0, 0] = np.nan
    steps = 10 * np.arange(1, 9)
    found = algoperf.time_to_target(steps, losses, target=0.15)
    for index in np.ndindex(2, 3):
        there = [
            s for s, loss in zip(steps, losses[index], strict=True) if loss <= 0.15
        ]
        assert found[index] == min(there, default=INF)
    assert found.shape == (2, 3) and (found == INF).any() and np.isfinite(found).any()


def test_a_loss_at_the_target_reaches_it():
    losses = np.array([3.0, 2.0, 1.0])
    assert algoperf.time_to_target(np.arange(3.0), losses, target=2.0) == 1.0


@pytest.mark.parametrize(
    ("best", "expected"),
    [
        ([9, 1, 5, 7, 3], 5),
        ([9, 1, 5, INF, INF], 9),
        ([9, 1, INF, INF, INF], INF),
        ([1, 3], 2),
        ([1, INF], INF),
        ([4], 4),
    ],
)
def test_the_time_of_studies_is_the_median_of_their_fastest_trials(best, expected):
    best = np.array(best, np.float64)
    times = np.stack([best + 1, best, np.full_like(best, INF)], -1)
    times = np.random.default_rng(0).permuted(times, axis=-1)
    np.testing.assert_array_equal(
        algoperf.study_time(np.stack([times, 2 * times])), [expected, 2 * expected]
    )


def test_the_target_is_the_best_optimizer_s_median():
    # Medians 2, 1.5 (two in the middle), and that of one that diverged on most seeds.
    values = np.array([[1, 2, 2, 9], [3, 1, 2, 0.5], [0, np.nan, INF, np.nan]])
    assert algoperf.target(values) == 1.5


def test_a_target_that_no_optimizer_reaches_is_refused():
    with pytest.raises(ValueError, match="some optimizer must train"):
        algoperf.target(np.array([[np.nan, INF, 1.0]]))
