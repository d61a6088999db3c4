import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_rule

import lopt
from evaluation import curves, entrants, scores, tuning
from evaluation.tuning import PROTOCOLS, Tuning
from lopt import mup
from lopt.baselines import BASELINES
from lopt.schedules import SCHEDULES
from lopt.spaces import Range

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
    trials = tuning.grid(ADAM, 21)
    assert len(trials) == 5 * len(SCHEDULES) <= 21
    assert {x["schedule"] for x in trials} == {*SCHEDULES}
    rates = sorted({x["learning_rate"] for x in trials})
    assert rates == pytest.approx(np.geomspace(*ADAM.space["learning_rate"][:2], 5))
    assert all(x["b1"] == ADAM.defaults["b1"] for x in trials)
    with pytest.raises(ValueError, match="needs as many trials"):
        tuning.grid(ADAM, 3)


def test_a_search_covers_the_space_and_begins_alike_for_every_budget():
    trials = tuning.search(ADAM, 64)
    assert trials[:8] == tuning.search(ADAM, 8)
    for name, values in ADAM.space.items():
        if isinstance(values, Range):
            # Halton points: each eighth of a range has about as many.
            shares = [values.share(x[name]) for x in trials]
            counts = np.histogram(shares, 8, (0, 1))[0]
            assert counts.min() >= 5 and counts.max() <= 11
        else:
            assert {x[name] for x in trials} == {*values}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_can_be_tuned_by_every_protocol(protocol, name):
    trials = PROTOCOLS[protocol](BASELINES[name], 8)
    assert len(trials) == (0 if protocol == "none" else 8)
    assert all(x.keys() == BASELINES[name].defaults.keys() for x in trials)


@pytest.mark.parametrize("seeds", [([1, 2], [2, 3]), ([1, 1], [3, 4]), ([1], [3, 3])])
def test_seeds_that_overlap_or_repeat_are_refused(seeds):
    tuning.check(Tuning("search", 1, (1, 2)), [3, 4])
    with pytest.raises(ValueError, match="seeds"):
        tuning.check(Tuning("search", 1, seeds[0]), seeds[1])


def test_unknown_protocols_and_empty_budgets_are_refused():
    with pytest.raises(ValueError, match="known: grid, none, search"):
        tuning.check(Tuning("serach", 1, (1,)), [3])
    for empty in (Tuning("search", 0, (1,)), Tuning("search", 1, ())):
        with pytest.raises(ValueError, match="need trials and seeds"):
            tuning.check(empty, [3])


def test_smoothing_is_that_of_scores():
    found = fake([[3.0, 1.0]])
    expected = scores.smooth(np.array([3.0, 1.0]), tuning.DECAY)[-1]
    assert tuning.values(found, "final")[0, 0] == pytest.approx(expected)


def test_learned_optimizers_have_a_budget_of_rates_of_their_own():
    space = {"learning_rate": Range(1e-3, 1e-1)}
    learned = ADAM._replace(space=space, learned=True)
    budget = Tuning("search", 20, (0,), learned=3)
    rates = [one["learning_rate"] for one in tuning.tried(learned, budget)]
    assert rates == pytest.approx([1e-3, 1e-2, 1e-1])
    for none in (budget._replace(learned=0), budget._replace(protocol="none")):
        assert tuning.tried(learned, none) == []
    assert len(tuning.tried(ADAM, budget)) == 20


def test_a_rule_that_sets_its_own_steps_on_a_schedule_is_not_tuned(tmp_path):
    card = {"schedule": {"name": "linear", "peak": 1.0}}
    (found,) = entrants.find(
        [str(tiny_rule.save(tmp_path / "rule", card=card))]
    ).values()
    assert not found.space and not found.learned


PARAMS = {"w": jnp.ones((2, 3))}


def steps(tx):
    """Returns four updates."""
    state, update, found = tx.init(PARAMS), jax.jit(tx.update), []
    for _ in range(4):
        updates, state = update(PARAMS, state, PARAMS)
        found.append(updates["w"])
    return np.stack(found)


def test_a_rule_with_a_schedule_is_tuned_around_the_peak_it_was_trained_under(tmp_path):
    card = {"schedule": {"name": "cosine", "peak": 0.1}}
    path = str(tiny_rule.save(tmp_path / "rule", head="normalised", card=card))
    (found,) = entrants.find([path]).values()
    assert found.learned and found.defaults == {"learning_rate": 0.1}
    assert found.space["learning_rate"] == Range(0.01, 1.0)
    info = mup.infer(PARAMS, PARAMS)
    ours = steps(found.build(num_steps=4, info=info, learning_rate=0.05))
    loaded = steps(lopt.load(path, num_steps=4))  # under the card's schedule
    np.testing.assert_allclose(2 * ours, loaded, rtol=1e-6)
