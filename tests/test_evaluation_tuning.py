import numpy as np
import pytest
import scipy.stats

from evaluation import curves, scores, tuning
from tests.test_evaluation_curves import SEEDS, STEPS, runner

SPACE = {"schedule": ("constant", "linear"), "learning_rate": (0.01, 0.3, 10.0)}


def test_each_metric_is_tuned_by_itself_over_the_whole_space():
    choices = tuning.tune(runner(), SPACE, num_steps=STEPS, seeds=SEEDS)
    for name, choice in choices.items():
        alone = [
            tuning.METRICS[name](
                curves.run(
                    runner(), num_steps=STEPS, seeds=SEEDS, hyperparameters=[trial]
                )
            ).mean()
            for trial in tuning.trials(SPACE)
        ]
        assert choice.hyperparameters == tuning.trials(SPACE)[np.argmin(alone)]
        np.testing.assert_allclose(choice.score, min(alone), rtol=1e-5)


def fake(losses):
    """Returns curves [h, 1, t] of constant validation loss."""
    train = np.asarray(losses, np.float32)[:, None, :]
    valid = np.full((*train.shape[:2], 1), 1.0)
    return curves.Curves(train, valid, valid, np.array([0]))


def tune_fake(monkeypatch, found, space):
    monkeypatch.setattr(curves, "run", lambda *_, **__: found)
    return tuning.tune(runner(), space, num_steps=12, seeds=[0])


def test_metrics_are_means_over_all_and_over_the_last_ten_steps():
    found = fake([np.arange(12.0)])
    values = [float(metric(found)[0, 0]) for metric in tuning.METRICS.values()]
    assert values == [5.5, 6.5, 1.0]


def test_an_optimum_at_the_edge_of_the_grid_is_named(monkeypatch):
    space = {"learning_rate": (0.1, 0.2, 0.3)}
    falling = tune_fake(monkeypatch, fake([[3.0], [2.0], [1.0]]), space)
    assert falling["mean"].edges == ("learning_rate",)
    inside = tune_fake(monkeypatch, fake([[3.0], [1.0], [2.0]]), space)
    assert inside["mean"].edges == ()


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_trials_that_diverge_are_never_chosen(monkeypatch, bad):
    space = {"learning_rate": (0.1, 0.2)}
    # The first is lower over the last ten steps.
    found = fake([[bad, *[0.0] * 11], [2.0] * 12])
    choices = tune_fake(monkeypatch, found, space)
    assert choices["final"].hyperparameters == {"learning_rate": 0.2}


def test_a_space_that_only_diverges_is_an_error(monkeypatch):
    space = {"learning_rate": (0.1, 0.2)}
    with pytest.raises(ValueError, match="each of 2 trials diverged"):
        tune_fake(monkeypatch, fake([[np.inf], [np.nan]]), space)


@pytest.mark.parametrize("seeds", [([1, 2], [2, 3]), ([1, 1], [3]), ([1], [3, 3])])
def test_seeds_that_overlap_or_repeat_are_refused(seeds):
    tuning.disjoint([1, 2], [3, 4])
    with pytest.raises(ValueError, match="seeds"):
        tuning.disjoint(*seeds)


def test_intervals_agree_with_scipy_s_bootstrap():
    values = np.random.default_rng(1).lognormal(size=10)
    ours = scores.interval(values)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=2
    ).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, rel=0.03)
    assert ours.high == pytest.approx(theirs.high, rel=0.03)


def test_a_run_that_diverged_is_not_averaged_away():
    for bad in (np.inf, np.nan):
        assert not np.isfinite(scores.interval(np.array([1.0, bad])).mean)


def test_iqm_pools_all_values():
    values = np.random.default_rng(0).normal(size=(4, 8))
    pooled = np.sort(values.ravel())[8:-8].mean()
    assert scores.iqm(values) == pytest.approx(pooled)


def test_speedup_is_steps_of_the_first_reference_over_the_candidate_s():
    steps = np.arange(1, 401)
    slow, fast = 1 / steps[None], 1 / (2 * steps[None, :200])
    got = scores.speedup(fast, [slow, slow[:, :200]])
    # Halved, the candidate's last ten are the reference's last ten of 400 or so.
    assert not got.censored and got.ratio == pytest.approx(2, abs=0.03)


def test_the_reference_s_first_arrival_counts():
    ramp = 1 - np.arange(100)[None] / 100
    late = np.concatenate([np.ones([1, 100]), ramp], -1)
    assert scores.speedup(ramp, [late, ramp]) == scores.Speedup(1.0, False)


def test_speedup_is_censored_where_the_reference_never_arrives():
    candidate, reference = np.full((2, 100), 0.1), np.full((2, 300), 0.2)
    assert scores.speedup(candidate, [reference]) == scores.Speedup(3.0, True)
