"""Meta-validation is the mean loss of whole runs, computed one by one."""

import jax.numpy as jnp
import numpy as np
import pytest
import toys

from meta_train import validation

SETTINGS = dict(valid_weight=0.0, log_offset=None, last=1.0, first_seed=5, num_seeds=4)


def score(family, *, lengths=(3, 7), **changed):
    scores = validation.scores(
        rule=toys.heavy_ball(),
        tasks={"toy": (family, lengths)},
        schedule=None,
        **SETTINGS | changed,
    )
    return lambda theta: scores(theta)["toy"]


def theta(rate, decay=0.5):
    return {"log_lr": jnp.log(rate), "decay": jnp.asarray(decay)}


def losses(rate, decay, num_steps):
    """Returns the losses after each step of heavy ball on toys.quadratic."""
    curvature, x, momentum, found = np.array([1, 4]), np.array([1, -2.0]), 0, []
    for _ in range(num_steps):
        momentum = decay * momentum + curvature * x
        x = x - rate * momentum
        found.append(0.5 * np.sum(curvature * x**2))
    return np.array(found)


@pytest.mark.parametrize("rate", [0.02, 0.1])
def test_score_is_the_mean_over_steps_then_over_lengths(rate):
    expected = np.mean([losses(rate, 0.5, n).mean() for n in (3, 7)])
    found = score(toys.quadratic())(theta(rate))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_end_of_a_run_may_be_what_counts():
    expected = np.mean([losses(0.1, 0.5, n)[-k:].mean() for n, k in ((3, 1), (7, 2))])
    found = score(toys.quadratic(), last=0.2)(theta(0.1))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_scores_may_be_means_of_logarithms():
    expected = np.mean([np.log(0.1 + losses(0.1, 0.5, n)).mean() for n in (3, 7)])
    found = score(toys.quadratic(), log_offset=0.1)(theta(0.1))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_a_run_that_diverges_scores_infinite():
    assert score(toys.quadratic(), lengths=(200,))(theta(10.0)) == jnp.inf


def test_score_depends_on_the_seeds_and_on_nothing_else():
    noisy = toys.quadratic(noise=1.0)
    first = score(noisy, lengths=(3,))
    other = score(noisy, lengths=(3,), first_seed=6)
    assert first(theta(0.1)) == first(theta(0.1))
    assert first(theta(0.1)) != other(theta(0.1))


def test_seeds_beside_the_first_are_those_that_follow_it():
    noisy = toys.quadratic(noise=1.0)
    one = [
        float(score(noisy, lengths=(3,), first_seed=s, num_seeds=1)(theta(0.1)))
        for s in (5, 6)
    ]
    two = score(noisy, lengths=(3,), num_seeds=2)(theta(0.1))
    assert float(two) == pytest.approx(np.mean(one), rel=1e-5)


def test_one_program_serves_every_theta():
    family, traces = toys.quadratic(), []

    def sample(key):
        traces.append(key)
        return family.sample(key)

    counted = score(family._replace(sample=sample))
    first = counted(theta(0.1)), len(traces)
    assert counted(theta(0.2)) != first[0]
    assert len(traces) == first[1]


def test_programs_are_compiled_beforehand_and_equal_ones_once():
    families = [toys.quadratic(), toys.classifier(), toys.quadratic()]
    tasks = {name: (x, (3,)) for name, x in zip("abc", families, strict=True)}
    scores = validation.scores(
        rule=toys.heavy_ball(), tasks=tasks, schedule=None, **SETTINGS
    )
    before, said = scores(theta(0.1)), []
    scores.compile(theta(0.1), say=said.append)
    assert "3 programs" in said[0]
    programs = [program for program, _ in scores.each.values()]
    assert programs[0] is programs[2] is not programs[1]
    assert scores(theta(0.1)) == before
    assert [program._cache_size() for program in programs] == [1, 1, 1]
