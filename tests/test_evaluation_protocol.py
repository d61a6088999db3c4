import functools
import warnings

import jax
import numpy as np
import optax
import pytest

import lopt
from evaluation import curves, entrants, evaluate, tuning
from lopt import artifact
from lopt.baselines import Baseline
from tests.test_evaluation_curves import EVERY, STEPS, family, runner, tx_factory

LENGTHS, TUNING, REPORTING = (EVERY, STEPS), (0, 1), (3, 5, 7)
# Over six steps .5 is best for training and .3, an edge, for validation.
RATES = {"learning_rate": (0.3, 0.5, 1.0)}
RULE = {
    "hidden": 4,
    "layers": 1,
    "head": "exp",
    "eps": "relative",
    "time": ["relative"],
    "clip": 8.0,
    "step_mult": 1e-2,
    "exp_mult": 1e-3,
}


def small_adam(*, num_steps, info, **hyperparameters):
    del info
    return tx_factory(num_steps=num_steps, **hyperparameters)


def plain(*, num_steps):
    """Returns what anyone might bring along; its schedule needs a Python number."""
    return optax.adam(optax.cosine_decay_schedule(0.3, num_steps))


def judged(optimizers, **changes):
    arguments = {
        "num_steps": LENGTHS,
        "tuning_seeds": TUNING,
        "reporting_seeds": REPORTING,
        "valid_every": EVERY,
        "say": lambda line: None,
    }
    return evaluate(optimizers, family(), **arguments | changes)


@functools.cache
def results():
    """Returns a candidate and a baseline tuned over three rates, on the toy family."""
    return judged({"mine": plain, "adam": Baseline(small_adam, RATES)})


def save_rule(directory, **card):
    theta = lopt.build("mlp", **RULE).init(jax.random.key(0))
    artifact.save(directory, rule="mlp", rule_args=RULE, theta=theta, card=card)
    return str(directory)


def test_there_is_an_entry_for_each_optimizer_length_and_metric():
    keys = [(e.name, e.num_steps, e.metric) for e in results().entries]
    assert len(set(keys)) == len(keys) == 2 * len(LENGTHS) * 3
    assert {e.name for e in results().entries if e.candidate} == {"mine"}


@pytest.mark.parametrize("length", LENGTHS)
def test_baselines_report_what_was_best_on_the_tuning_seeds(length):
    choices = tuning.tune(runner(), RATES, num_steps=length, seeds=TUNING)
    for metric, choice in choices.items():
        own = [choice.hyperparameters]
        found = curves.run(
            runner(), num_steps=length, seeds=REPORTING, hyperparameters=own
        )
        entry = next(
            e
            for e in results().entries
            if (e.name, e.num_steps, e.metric) == ("adam", length, metric)
        )
        assert entry.choice.hyperparameters == choice.hyperparameters
        np.testing.assert_allclose(
            entry.values, tuning.METRICS[metric](found)[0], rtol=1e-5
        )


def test_optima_at_the_edge_are_noted():
    edges = [e for e in results().entries if e.choice and e.choice.edges]
    assert len(results().notes) == len(edges) == 1
    for note, entry in zip(results().notes, edges, strict=True):
        assert f"adam at {entry.num_steps} steps" in note and "learning_rate=" in note


def test_state_is_counted_in_bytes_per_parameter():
    # Two moments of four bytes, and two counts of four for twelve parameters.
    assert results().state_bytes["adam"] == pytest.approx(8 + 8 / 12)


def test_learned_rules_are_found_by_path_and_label(tmp_path):
    path = save_rule(tmp_path / "rule")
    found = entrants.find(["adam", f"mine={path}", path])
    assert list(found) == ["adam", "mine", path]
    assert not found["mine"].space and found["adam"].space


def test_learned_rules_run_untuned_and_their_warnings_are_noted(tmp_path):
    path = save_rule(tmp_path / "rule", trained_horizon=[2, EVERY])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = judged(entrants.find([f"mine={path}"]))
    assert found.trials == {"mine": 0}
    assert len(found.notes) == 1 and f"num_steps is {STEPS}" in found.notes[0]
    slow = curves.curves(
        family(),
        lambda *, num_steps: lopt.load(path, num_steps=num_steps),
        num_steps=EVERY,
        seeds=REPORTING,
        valid_every=EVERY,
    )
    np.testing.assert_allclose(
        found.entries[0].curves.train, slow.train, rtol=1e-4, atol=1e-6
    )


def test_unknown_optimizers_are_refused_with_the_known():
    with pytest.raises(ValueError, match="no baseline .sgdm, adam.*released: "):
        entrants.find(["adam", "no-such-thing"])
    with pytest.raises(ValueError, match="each once"):
        entrants.find(["adam", "adam"])


def test_mistakes_are_found_before_compiling():
    def never(*, num_steps):
        raise AssertionError

    with pytest.raises(ValueError, match="both for tuning and for reporting"):
        judged({"mine": never}, reporting_seeds=(1, 2))
    with pytest.raises(ValueError, match="multiple of valid_every"):
        judged({"mine": never}, num_steps=(EVERY, EVERY + 1))
