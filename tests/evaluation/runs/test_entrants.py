"""Who takes part: by names, paths and labels, and what of learned rules is tuned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_rule

import lopt
from evaluation.runs import entrants
from lopt import mup
from lopt.baselines.spaces import Range
from tasks import suites
from tasks.costs import flops


def test_optimizers_are_found_by_name_path_and_label():
    assert list(entrants.find(["adam", "mine=sgdm"])) == ["adam", "mine"]
    with pytest.raises(ValueError, match="unknown optimizer .*known: sgdm, "):
        entrants.find(["adam", "no-such-thing"])
    with pytest.raises(ValueError, match="each once"):
        entrants.find(["adam", "adam"])


def test_existing_directories_are_tried_before_labels_and_commas(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("lr=0.1", "lr=0.1,seed=1", "a,b"):
        (tmp_path / name / "artifact").mkdir(parents=True)
    text = "lr=0.1/artifact, mine=lr=0.1,seed=1/artifact,a,b/artifact,sgdm,x=adam"
    names = entrants.split(text)
    expected = ["lr=0.1/artifact", "mine=lr=0.1,seed=1/artifact", "a,b/artifact"]
    assert names == [*expected, "sgdm", "x=adam"]
    # A label has no comma, so what stands before it is apart.
    assert entrants.split("sgdm,x=a,b/artifact") == ["sgdm", "x=a,b/artifact"]
    assert entrants.labelled(names[0]) == (names[0], names[0])
    assert entrants.labelled(names[1]) == ("mine", "lr=0.1,seed=1/artifact")


def test_a_directory_below_home_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a,b=c").mkdir()
    assert entrants.split("~/a,b=c,sgdm") == ["~/a,b=c", "sgdm"]
    assert entrants.labelled("~/a,b=c") == ("~/a,b=c", "~/a,b=c")


def test_a_rule_that_sets_its_own_steps_on_a_schedule_is_not_tuned(tmp_path):
    card = {"schedule": {"name": "linear", "peak": 1.0}}
    (found,) = entrants.find(
        [str(tiny_rule.save(tmp_path / "rule", card=card))]
    ).values()
    assert not found.space and not found.learned


@pytest.mark.parametrize(
    ("name", "operations"),
    [("adamw", 17), ("mu_norm", 610), ("muon", 1_700), ("mu_mlp", 4_300)],
)
def test_updates_take_as_many_operations_as_the_documentation_says(name, operations):
    family = suites.family(suites.SUITES["scale-v1"]["conv-patches16"])
    (found,) = entrants.find([name]).values()
    found = entrants.contender(found, family, num_steps=200)
    tx = found.factory(num_steps=200, **found.defaults)
    state = jax.eval_shape(tx.init, family.shapes)
    work = flops(tx.update, family.shapes, state, family.shapes)
    params = sum(x.size for x in jax.tree.leaves(family.shapes))
    assert work / params == pytest.approx(operations, rel=0.05)


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
