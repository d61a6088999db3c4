import itertools
import math
import random
import statistics as stdlib

import numpy as np
import pytest
import scipy.stats

from evaluation import statistics

STEPS = 40  # of a candidate


def rng(seed=0):
    return np.random.default_rng(seed)


def falling(steps, *, scale=1.0, power=0.5):
    """Returns a strictly falling curve f(scale t) after each of some steps t."""
    return (1 + scale * np.arange(1, steps + 1)) ** -power


def trimmed(values):
    """Returns the interquartile mean in plain Python."""
    values, cut = sorted(values), len(values) // 4
    return stdlib.fmean(values[cut : len(values) - cut])


def percentiles(draws):
    cuts = stdlib.quantiles(draws, n=40)
    return cuts[0], cuts[-1]


def agree(ours, theirs, *, share=0.06):
    """Claims that ends of intervals differ by Monte-Carlo error of 2,000 draws.

    The error of a 2.5 % quantile is sqrt(p (1 - p) / 2000) / density, 0.06 standard
    deviations of a normal statistic; 0.06 of the width are four of these.
    """
    width = theirs[1] - theirs[0]
    np.testing.assert_allclose(ours[1:], theirs, rtol=0, atol=share * width)


def test_smoothing_agrees_with_a_loop_in_doubles():
    losses, mean, expected = rng().normal(size=(2, 3, 50)), 0.0, []
    for step in range(50):
        mean = 0.9 * mean + 0.1 * losses[..., step]
        expected.append(mean / (1 - 0.9 ** (step + 1)))
    found = statistics.smooth(losses, 0.9)
    np.testing.assert_allclose(found, np.stack(expected, -1), rtol=1e-12)
    np.testing.assert_array_equal(statistics.smooth(losses, 0.0), losses)
    assert statistics.smooth(np.float32(losses), 0.9).dtype == np.float64


@pytest.mark.parametrize("decay", [0.0, 0.9])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_nothing_after_a_loss_that_is_not_finite_is_finite(decay, bad):
    losses = np.ones((2, 6))
    losses[1, 2] = bad
    finite = np.isfinite(statistics.smooth(losses, decay))
    assert finite.tolist() == [[True] * 6, [True] * 2 + [False] * 4]


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decays_outside_their_range_are_refused(decay):
    with pytest.raises(ValueError, match="decay must be in"):
        statistics.smooth(np.ones(3), decay)


@pytest.mark.parametrize("scale", [2.0, 1.0, 0.5, 0.25])
@pytest.mark.parametrize("power", [0.1, 0.5, 3.0])
def test_speedup_of_a_curve_scaled_in_time_is_the_scale(scale, power):
    candidate, reference = (
        statistics.smooth(falling(steps, scale=s, power=power), 0.0)
        for steps, s in ((STEPS, scale), (3 * STEPS, 1.0))
    )
    assert statistics.speedup(candidate, [reference]) == statistics.Speedup(
        scale, False
    )


@pytest.mark.parametrize("scale", [2.0, 1.0, 0.5, 0.25])
def test_speedup_is_censored_just_where_the_reference_is_too_short(scale):
    candidate, needed = falling(STEPS, scale=scale), int(scale * STEPS)
    for length in range(1, 2 * needed):
        found = statistics.speedup(candidate, [falling(length)])
        reached = min(length, needed)
        assert found == statistics.Speedup(reached / STEPS, length < needed)


@pytest.mark.parametrize("scale", [2.0, 1.0, 0.5, 0.25])
def test_iqm_of_known_speedups_is_exact(scale):
    ratios = [
        [
            statistics.speedup(
                height * falling(STEPS, scale=scale, power=power),
                [height * falling(2 * STEPS, power=power)],
            ).ratio
            for height in (0.5, 1.0, 2.0, 4.0)  # of four seeds
        ]
        for power in (0.1, 0.5, 1.0, 3.0)  # of four tasks
    ]
    found = statistics.stratified(np.log(ratios))
    assert found == statistics.Interval(*3 * [np.log(scale)])
    assert statistics.geometric(found) == pytest.approx(3 * (scale,), rel=1e-15)


@pytest.mark.parametrize("scale", [2.0, 0.5, 0.25])
@pytest.mark.parametrize("decay", [0.5, 0.9, 0.95])
def test_smoothing_pulls_speedups_to_one_by_lag_over_steps(scale, decay):
    steps, lag = 1_000, decay / (1 - decay)
    candidate, reference = (
        statistics.smooth(-s * np.arange(1.0, t + 1), decay)
        for s, t in ((scale, steps), (1.0, 2 * steps))
    )
    # Straight lines, smoothed, are late: t - lag = scale (steps - lag).
    expected = scale - (scale - 1) * lag / steps
    found = statistics.speedup(candidate, [reference])
    assert found.ratio == pytest.approx(expected, abs=1.01 / steps)  # whole steps


def test_the_reference_s_first_arrival_counts():
    ramp = 1 - np.arange(100) / 100
    late = np.concatenate([np.ones(100), ramp])
    for references in ([late, ramp], [ramp, late]):
        assert statistics.speedup(ramp, references) == statistics.Speedup(1.0, False)
    assert statistics.speedup(ramp, [late]) == statistics.Speedup(2.0, False)


def test_references_that_fall_short_do_not_hide_one_that_arrives():
    candidate, longest = falling(STEPS), np.ones(5 * STEPS)
    found = statistics.speedup(candidate, [longest, falling(STEPS), falling(2)])
    assert found == statistics.Speedup(1.0, False)
    assert statistics.speedup(candidate, [falling(2), longest]) == statistics.Speedup(
        5.0, True
    )


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_diverged_has_the_least_speedup_and_reaches_nothing(bad):
    candidate = falling(STEPS)
    diverged = np.append(candidate[:-1], bad)
    assert statistics.speedup(diverged, [candidate]) == statistics.Speedup(
        1 / STEPS, False
    )
    assert statistics.speedup(candidate, [diverged]) == statistics.Speedup(1.0, True)


@pytest.mark.parametrize("shape", [(1,), (3,), (7,), (4, 8), (3, 5), (1, 2, 11)])
def test_iqm_agrees_with_scipy(shape):
    values = rng().lognormal(size=shape)
    expected = scipy.stats.trim_mean(values.ravel(), 0.25)
    assert statistics.iqm(values) == pytest.approx(expected, rel=1e-14)
    assert statistics.iqm(values) == pytest.approx(trimmed(values.ravel()))


def test_iqm_reduces_the_axes_it_is_told():
    values = rng().normal(size=(3, 4, 5))
    expected = [scipy.stats.trim_mean(x.ravel(), 0.25) for x in values]
    np.testing.assert_allclose(statistics.iqm(values, axis=(-2, -1)), expected)
    swapped = np.moveaxis(values, 0, 1)
    np.testing.assert_allclose(statistics.iqm(swapped, axis=(0, 2)), expected)


def test_iqm_trims_an_infinity_but_not_a_nan():
    assert statistics.iqm(np.array([1.0, 2.0, 3.0, np.inf])) == 2.5
    assert statistics.iqm(np.array([-np.inf, 2.0, 3.0, 4.0])) == 2.5
    assert statistics.iqm(np.array([1.0, 2.0, np.inf, np.inf])) == np.inf
    assert np.isnan(statistics.iqm(np.array([1.0, 2.0, 3.0, np.nan])))


def test_intervals_agree_with_scipy_s_bootstrap():
    values = rng(1).lognormal(size=10)
    ours = statistics.interval(values)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=2
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    agree(ours, theirs, share=0.03)


def test_a_run_that_diverged_is_not_averaged_away():
    for bad in (np.inf, np.nan):
        found = statistics.interval(np.array([1.0, bad]))
        assert not np.isfinite(found).any() and not found.value < np.inf
    assert statistics.interval(np.array([1.0, np.inf])).value == np.inf


def test_stratified_intervals_agree_with_a_loop():
    values = rng(1).lognormal(size=(5, 7)) + np.arange(5.0)[:, None]
    source, draws = random.Random(0), []
    for _ in range(2_000):
        picked = [source.choices(row, k=7) for row in values.tolist()]
        draws.append(trimmed(sum(picked, [])))
    found = statistics.stratified(values)
    assert found.value == pytest.approx(trimmed(values.ravel()))
    agree(found, percentiles(draws))


def test_stratified_intervals_of_one_task_agree_with_scipy_s_bootstrap():
    values = rng(3).lognormal(size=(1, 15))
    theirs = scipy.stats.bootstrap(
        (values[0],),
        lambda x, axis: scipy.stats.trim_mean(x, 0.25, axis=axis),
        method="percentile",
        n_resamples=20_000,
        rng=2,
    ).confidence_interval
    agree(statistics.stratified(values), theirs, share=0.03)


@pytest.mark.parametrize("statistic", [np.mean, statistics.iqm])
def test_intervals_cover_the_truth_nineteen_times_in_twenty(statistic):
    # Tasks lie much farther apart than their seeds, but evenly about zero. Resampled
    # across tasks, all intervals would cover it.
    centres, covered = np.linspace(-5, 5, 6)[:, None], 0
    for seed in range(200):
        values = centres + rng(seed).normal(size=(6, 12))
        found = statistics.stratified(values, statistic=statistic, resamples=1_000)
        covered += found.low <= 0 <= found.high
    # Of 12 seeds a bootstrap sees 11/12 of the variance: 94 %, give or take 1.7 %.
    assert 0.88 <= covered / 200 <= 0.985


@pytest.mark.parametrize("paired", [False, True])
def test_chunks_make_up_all_resamples(monkeypatch, paired):
    values, shapes = rng().normal(size=(2, 3, 5)), []

    def mean(a, b, axis):
        shapes.append(a.shape)
        return (a - b).mean(axis)

    monkeypatch.setattr(statistics, "CHUNK", 4 * values.size)
    statistics.stratified(*values, statistic=mean, paired=paired, resamples=10)
    assert shapes == [(4, 3, 5), (4, 3, 5), (2, 3, 5), (3, 5)]


def test_paired_arrays_are_resampled_alike():
    values = rng().normal(size=(3, 6))
    found = [
        statistics.stratified(
            values,
            values + 1,
            statistic=lambda a, b, axis: (b - a).mean(axis),
            paired=paired,
        )
        for paired in (True, False)
    ]
    assert found[0] == pytest.approx((1, 1, 1))
    assert found[1].low < 0.9 and found[1].high > 1.1
    with pytest.raises(ValueError, match="same shape"):
        statistics.stratified(values, values[:, 1:], statistic=np.mean, paired=True)


def test_an_end_of_an_interval_may_be_infinite():
    # Of four seeds, one infinity is trimmed, two are not.
    found = statistics.stratified(np.array([[0.0, 1.0, 2.0, np.inf]]))
    assert found.value == 1.5 and 0 <= found.low < 1.5 and found.high == np.inf


def test_probability_of_improvement_agrees_with_mann_whitney():
    # Small whole numbers: many ties.
    a, b = (rng(n).integers(0, 6, (4, n)).astype(float) for n in (7, 9))
    expected = np.mean(
        [
            scipy.stats.mannwhitneyu(theirs, ours).statistic / (7 * 9)
            for ours, theirs in zip(a, b, strict=True)
        ]
    )
    found = statistics.probability_of_improvement(a, b).value
    assert found == pytest.approx(expected) != 0.5
    assert statistics.probability_of_improvement(b, a).value == pytest.approx(
        1 - expected
    )


@pytest.mark.parametrize("paired", [False, True])
def test_intervals_of_the_probability_of_improvement_agree_with_a_loop(paired):
    a = rng(1).normal(size=(3, 8))
    b = a + 0.5 * rng(2).normal(size=(3, 8)) + 0.3
    source, draws = random.Random(0), []
    for _ in range(2_000):
        total = 0.0
        for ours, theirs in zip(a.tolist(), b.tolist(), strict=True):
            i, j = (source.choices(range(8), k=8) for _ in range(2))
            pairs = itertools.product(i, i if paired else j)
            total += sum(ours[m] < theirs[n] for m, n in pairs) / 64
        draws.append(total / 3)
    found = statistics.probability_of_improvement(a, b, paired=paired)
    agree(found, percentiles(draws), share=0.07)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_diverged_loses_to_what_did_not(bad):
    def chance(ours, theirs):
        a, b = np.array([[ours]]), np.array([[theirs]])
        return tuple(statistics.probability_of_improvement(a, b))

    assert chance(bad, 1e9) == (0, 0, 0) and chance(1e9, bad) == (1, 1, 1)
    assert chance(bad, np.inf) == (0.5, 0.5, 0.5)


def test_loss_ratios_are_logarithms_within_their_limits():
    ours = np.array([[1.0, 2.0, 1.0, 300.0], [0.5, 1e-30, 0.0, -1.0]])
    theirs = np.array([[1.0, 1.0, 300.0, 1.0], [0.5, 1e-20, -3.0, 1e-12]])
    expected = [[0, np.log(2), -np.log(100), np.log(100)], [0, 0, 0, 0]]
    np.testing.assert_allclose(statistics.loss_ratio(ours, theirs), expected)
    np.testing.assert_allclose(statistics.loss_ratio(theirs, ours), -np.array(expected))
    wide = statistics.loss_ratio(ours[:1], theirs[:1], limit=1e3)
    np.testing.assert_allclose(wide, np.log([[1, 2, 1 / 300, 300]]))


def test_losses_near_zero_count_as_the_floor():
    zero, small = np.array([[0.0]]), np.array([[3e-12]])
    assert statistics.loss_ratio(small, zero).item() == pytest.approx(math.log(3))


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_loss_ratios_of_what_diverged_are_at_the_limit(bad):
    ours, theirs = np.array([[bad, 1.0, bad]]), np.array([[1.0, bad, np.inf]])
    expected = [[np.log(10), -np.log(10), 0.0]]
    np.testing.assert_array_equal(
        statistics.loss_ratio(ours, theirs, limit=10.0), expected
    )


def test_the_geometric_mean_is_that_of_scipy():
    ratios = rng().lognormal(size=(1, 9))
    found = statistics.geometric(
        statistics.stratified(np.log(ratios), statistic=np.mean)
    )
    assert found.value == pytest.approx(scipy.stats.gmean(ratios[0]))
    assert found.low < found.value < found.high


@pytest.mark.parametrize("diverged", [0, 1, 3, 7])
def test_expected_best_is_the_mean_over_all_choices_of_trials(diverged):
    trials = rng().normal(size=7)
    trials[rng(1).permutation(7)[:diverged]] = np.inf
    expected = [
        np.mean([min(chosen) for chosen in itertools.combinations(trials, k)])
        for k in range(1, 8)
    ]
    found = statistics.expected_best(trials, range(1, 8))
    np.testing.assert_allclose(found, expected)
    assert np.isinf(found).sum() == diverged


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_expected_best_is_linear_between_whole_budgets(bad):
    trials = np.array([5.0, 1.0, bad, 2.0])
    two, three, four = statistics.expected_best(trials, [2, 3, 4])
    found = statistics.expected_best(trials, [2.25, 3.5, 4.0, 9.5, 1.0, 1.5])
    between = [0.75 * two + 0.25 * three, (three + four) / 2]
    np.testing.assert_allclose(found, [*between, four, four, np.inf, np.inf])


def test_expected_best_of_many_trials_neither_overflows_nor_underflows():
    # Of n numbers 1 to n, the least of k is (n + 1) / (k + 1) in the mean.
    n, budgets = 4_000, np.array([1, 7, 2_000, 3_999, 4_000])
    found = statistics.expected_best(rng().permutation(n) + 1.0, budgets.tolist())
    np.testing.assert_allclose(found, (n + 1) / (budgets + 1))
    half = np.repeat([1.0, np.inf], n // 2)
    assert statistics.expected_best(half, [n // 2, n // 2 + 1]).tolist() == [
        np.inf,
        1.0,
    ]


def test_budgets_below_one_trial_are_refused():
    with pytest.raises(ValueError, match="at least 1 trial"):
        statistics.expected_best(np.ones(3), [1.0, 0.5])


@pytest.mark.parametrize("end", [0.6, 1.5, 2.9])
def test_what_rises_again_is_as_fast_as_its_end_is_low(end):
    reference = np.linspace(3.0, 0.0, 301)
    rising = np.concatenate([np.linspace(3.0, 0.5, 50), np.linspace(0.5, end, 150)])
    # The reference is at `end` after (3 - end) of its 3, not counting the start.
    steps = np.flatnonzero(reference <= end)[0] + 1
    assert statistics.speedup(rising, [reference]) == statistics.Speedup(
        steps / 200, False
    )


def test_noise_never_makes_an_optimizer_faster_than_itself():
    noisy = np.array([3.0, 1.0, 0.5, 1.0])
    assert statistics.speedup(noisy, [noisy]) == statistics.Speedup(0.5, False)
