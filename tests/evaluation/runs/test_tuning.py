import runpy

import numpy as np
import pytest
from places import ROOT

from evaluation import __main__ as command
from evaluation import protocol, statistics
from evaluation.runs import curves, tuning
from evaluation.runs.tuning import PROTOCOLS, Tuning
from lopt.baselines import BASELINES
from lopt.baselines.spaces import Range
from lopt.schedules import SCHEDULES

CONFIG = ROOT / "configs" / "evaluate.py"

START = tuning.Seen([], {})
SPACE = {"schedule": ("constant", "linear"), "learning_rate": Range(0.01, 1.0)}
ADAM = BASELINES["adam"]


def fake(losses):
    """Returns curves [h, 1, t] of constant held-out loss."""
    train = np.asarray(losses, np.float32)[:, None, :]
    flat = np.full((*train.shape[:2], 1), 1.0)
    return curves.Curves(train, *[flat] * 5)


def chosen(losses, rates, metric="final"):
    trials = [{"learning_rate": rate} for rate in rates]
    values = tuning.values(fake(losses), metric)
    return tuning.choose(values, trials, {"learning_rate": SPACE["learning_rate"]})


def test_metrics_are_means_last_averages_and_validation_losses():
    found = fake([np.arange(12.0)])
    values = [float(tuning.values(found, metric)[0, 0]) for metric in tuning.METRICS]
    weights = tuning.DECAY ** np.arange(11, -1, -1.0)
    assert values == pytest.approx([5.5, weights @ np.arange(12) / weights.sum(), 1.0])


def test_the_least_mean_over_seeds_is_chosen():
    values = np.array([[1.0, 9.0], [4.0, 4.0], [0.0, np.inf]])
    trials = [{"learning_rate": rate} for rate in (0.1, 0.2, 0.3)]
    choice = tuning.choose(values, trials, {})
    assert choice == ({"learning_rate": 0.2}, 4.0, ())


def test_an_optimum_at_the_edge_of_the_range_is_named():
    assert chosen([[3.0], [2.0], [1.0]], (0.1, 0.2, 0.95)).edges == ("learning_rate",)
    assert chosen([[3.0], [1.0], [2.0]], (0.1, 0.2, 0.95)).edges == ()
    assert chosen([[1.0], [1.5], [2.0]], (0.0101, 0.2, 0.5)).edges == ("learning_rate",)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_trials_that_diverge_are_never_chosen(bad):
    # The first has the lower average at the end.
    losses = [[bad, *[0.0] * 11], [2.0] * 12]
    for metric in tuning.METRICS:
        assert (
            chosen(losses, (0.1, 0.2), metric).hyperparameters["learning_rate"] == 0.2
        )


def test_a_space_that_only_diverges_is_an_error():
    with pytest.raises(ValueError, match="each of 2 trials diverged"):
        chosen([[np.inf], [np.nan]], (0.1, 0.2))


def test_a_grid_is_every_schedule_at_even_rates_within_the_budget():
    trials = tuning.grid(ADAM, 21, START)
    assert len(trials) == 5 * len(SCHEDULES) <= 21
    assert {x["schedule"] for x in trials} == {*SCHEDULES}
    rates = sorted({x["learning_rate"] for x in trials})
    assert rates == pytest.approx(np.geomspace(*ADAM.space["learning_rate"][:2], 5))
    assert all(x["b1"] == ADAM.defaults["b1"] for x in trials)
    with pytest.raises(ValueError, match="needs as many trials"):
        tuning.grid(ADAM, 3, START)


def test_a_search_covers_the_space_and_begins_alike_for_every_budget():
    trials = tuning.search(ADAM, 64, START)
    assert trials[:8] == tuning.search(ADAM, 8, START)
    for name, values in ADAM.space.items():
        if isinstance(values, Range):
            # Halton points: each eighth of a range has about as many.
            shares = [values.share(x[name]) for x in trials]
            counts = np.histogram(shares, 8, (0, 1))[0]
            assert counts.min() >= 5 and counts.max() <= 11
        else:
            assert {x[name] for x in trials} == {*values}


def played(baseline, budget, loss):
    """Returns all trials of a protocol on known losses, and how many at a time."""
    seen, sizes = START, []
    while new := tuning.further(baseline, budget, seen):
        own = seen.hyperparameters + new
        statistics = {metric: np.array([*map(loss, own)]) for metric in tuning.METRICS}
        seen, sizes = tuning.Seen(own, statistics), [*sizes, len(new)]
    return seen, sizes


def bowl(one):
    """Returns a loss whose best is off every grid, and off the defaults."""
    rate = np.log10(one["learning_rate"]) + 1.3
    decays = np.log10(1 - one["b1"]) + 0.6, np.log10(1 - one["b2"]) + 1.5
    worse = {"linear": 0.0, "wsd": 0.1, "cosine": 0.2, "constant": 0.5}
    return rate**2 + 0.1 * np.square(decays).sum() + worse[one["schedule"]]


NARROW = Tuning("narrow", 40, (0,))


def test_narrowing_begins_with_rates_at_defaults_under_a_schedule_that_decays():
    seen, sizes = played(ADAM, NARROW, bowl)
    # Three in the middle, then beyond the best of them, which the next is not above.
    assert sizes[:3] == [3, 1, 4] and sum(sizes) == 40
    first = seen.hyperparameters[:4]
    grid = np.geomspace(*ADAM.space["learning_rate"][:2], tuning.RATES)
    rates = [x["learning_rate"] for x in first]
    assert rates == pytest.approx(grid[[3, 2, 4, 5]])
    for one in first:
        assert ADAM.defaults | {"learning_rate": one["learning_rate"]} == one
    constant = [x for x in seen.hyperparameters if x["schedule"] == "constant"]
    assert len(constant) == 1


def test_the_first_trials_of_a_narrowing_are_those_of_a_smaller_budget():
    whole, _ = played(ADAM, NARROW, bowl)
    for trials in (1, 5, 7, 9, 20):
        part, _ = played(ADAM, NARROW._replace(trials=trials), bowl)
        assert part.hyperparameters == whole.hyperparameters[:trials]


@pytest.mark.parametrize(("trials", "others"), [(20, 20), (40, 80)])
def test_narrowing_comes_closer_than_a_search(trials, others):
    narrow, _ = played(ADAM, NARROW._replace(trials=trials), bowl)
    search, _ = played(ADAM, Tuning("search", others, (0,)), bowl)
    assert narrow.scores["final"].min() < search.scores["final"].min()


def test_each_metric_draws_its_share_of_a_round():
    def scores(own):
        rates = np.log10([x["learning_rate"] for x in own])
        at = {"final": -1.0, "valid": -3.0, "mean": -2.0}
        return {metric: np.square(rates - at[metric]) for metric in tuning.METRICS}

    seen, new = START, []
    while len(new) < 4:  # rates come in threes and fewer
        new = tuning.further(ADAM, NARROW, seen)
        own = seen.hyperparameters + new
        seen = tuning.Seen(own, scores(own))
    new = np.log10([x["learning_rate"] for x in new])
    reach = 4 / (tuning.RATES - 1)  # of four decades
    for rate, metric in zip(new, tuning.AROUND, strict=True):
        centre = {"final": -1.0, "valid": -3.0, "mean": -2.0}[metric]
        assert abs(rate - centre) < 1.5 * reach


def test_trials_that_diverge_are_no_centre():
    def loss(one):
        return np.inf if one["learning_rate"] > 0.02 else bowl(one)

    seen, _ = played(ADAM, NARROW, loss)
    tail = [x["learning_rate"] for x in seen.hyperparameters[-8:]]
    assert max(tail) < 0.06 and np.isfinite(seen.scores["final"].min())


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_can_be_tuned_by_every_protocol(protocol, name):
    baseline, how = BASELINES[name], Tuning(protocol, 13, (0,))
    seen, _ = played(baseline, how, lambda one: one["learning_rate"])
    trials = seen.hyperparameters
    assert len(trials) == tuning.budget(baseline, how)
    assert len(trials) in ((0,) if protocol == "none" else (12, 13))
    assert all(x.keys() == baseline.defaults.keys() for x in trials)
    for one in trials:
        for name, values in baseline.space.items():
            inside = (
                isinstance(values, Range) and values.low <= one[name] <= values.high
            )
            assert inside or one[name] in values


@pytest.mark.parametrize("seeds", [([1, 2], [2, 3]), ([1, 1], [3, 4]), ([1], [3, 3])])
def test_seeds_that_overlap_or_repeat_are_refused(seeds):
    tuning.check(Tuning("search", 1, (1, 2)), [3, 4])
    with pytest.raises(ValueError, match="seeds"):
        tuning.check(Tuning("search", 1, seeds[0]), seeds[1])


def test_unknown_protocols_and_empty_budgets_are_refused():
    with pytest.raises(ValueError, match="known: grid, narrow, none, search"):
        tuning.check(Tuning("serach", 1, (1,)), [3])
    for empty in (Tuning("search", 0, (1,)), Tuning("search", 1, ())):
        with pytest.raises(ValueError, match="need trials and seeds"):
            tuning.check(empty, [3])


def test_smoothing_is_that_of_scores():
    found = fake([[3.0, 1.0]])
    expected = statistics.smooth(np.array([3.0, 1.0]), tuning.DECAY)[-1]
    assert tuning.values(found, "final")[0, 0] == pytest.approx(expected)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_learned_optimizers_have_as_many_trials_as_others_or_rates_of_their_own(
    protocol,
):
    space = {"learning_rate": Range(1e-3, 1e-1)}
    learned = ADAM._replace(space=space, learned=True, defaults={"learning_rate": 1e-2})

    def rates(**changes):
        how = Tuning(protocol, 20, (0,))._replace(**changes)
        seen, _ = played(learned, how, lambda one: one["learning_rate"])
        assert len(seen.hyperparameters) == tuning.budget(learned, how)
        return [one["learning_rate"] for one in seen.hyperparameters]

    assert rates(learned=0) == []
    if protocol == "none":
        assert rates() == rates(learned=3) == []
        return
    assert len({*rates()}) == 20
    assert rates(learned=3) == pytest.approx([1e-3, 1e-2, 1e-1])


def test_the_config_tunes_as_python_does_by_default():
    config = command.complete(runpy.run_path(str(CONFIG))["get_config"]())["tuning"]
    first, count = config.pop("seeds")
    own = Tuning(**config, seeds=tuple(range(first, first + count)))
    assert own == protocol.DEFAULT and own.protocol == "narrow"
