"""Released rules are what their cards say, and recipes make them."""

import json
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from places import ROOT
from results import results as toy

import lopt
import meta_train.build
from benchmarks import releases
from common import settings
from configs.evaluate import get_config as judging
from evaluation import __main__ as command
from evaluation.report import style
from evaluation.runs import results
from lopt import catalogue
from meta_train import sections
from tasks import suites

RECIPES = ROOT / "configs" / "release"
NAMES = sorted(path.stem for path in RECIPES.glob("mu_*.py"))
STAGES = [("first", "second"), ("second", "third"), ("third", "")]
EARLIER = [pytest.param(old, marks=pytest.mark.slow) for old, _ in STAGES]
every = pytest.mark.parametrize("name", NAMES)


def recipe(name, variant=""):
    """Returns a config of a recipe, with every default written out."""
    config = runpy.run_path(str(RECIPES / f"{name}.py"))["get_config"](variant)
    return ConfigDict(sections.complete(config))


@every
@pytest.mark.parametrize("variant", ["", *EARLIER])
def test_recipes_build_and_quick_changes_no_key(name, variant):
    full, quick = recipe(name, variant), recipe(name, f"{variant},quick".strip(","))
    meta_train.build.build(full)
    run = meta_train.build.build(quick)
    run.trace()
    assert run.validation.every or not variant
    trees = [jax.tree.structure(settings.resolve(c["rule"])) for c in (full, quick)]
    assert trees[0] == trees[1] and set(full) == set(quick) and quick != full


def test_rules_are_chosen_by_no_seed_that_is_reported():
    chosen = recipe("mu_mlp").validation
    judged = ConfigDict(command.complete(judging()))
    seeds = {chosen.first_seed + k for k in range(chosen.num_seeds)}
    for first, number in (judged.seeds, judged.tuning.seeds):
        assert not seeds & {*range(first, first + number)}
    assert settings.resolve(chosen) == settings.resolve(recipe("mu_norm").validation)
    assert chosen.suite == "valid-v2"


def test_rules_are_chosen_by_the_suite_that_is_named():
    c = recipe("mu_mlp", "quick")
    c.validation.suite = "digits-v1"
    run = meta_train.build.build(c)
    theta = jax.eval_shape(run.learner.init, run.data).theta
    scores = jax.eval_shape(run.scores, theta)
    assert scores.keys() == suites.SUITES["digits-v1"].keys() != run.families.keys()


@every
def test_an_unknown_variant_of_a_recipe_lists_the_known(name):
    with pytest.raises(ValueError, match="`quick` and at most one of first, second"):
        recipe(name, "quik")


@every
@pytest.mark.parametrize(("stage", "next_stage"), STAGES)
def test_a_stage_starts_from_what_the_one_before_made(name, stage, next_stage):
    before = recipe(name, stage)
    start = lopt.read(RECIPES.parent.parent / recipe(name, next_stage).theta.start)
    assert sections.complete(start.card["config"]) == settings.resolve(before)
    assert 0.85 < start.card["meta_steps"] / before.outer.num_steps <= 1


@pytest.mark.parametrize("name", sorted({*NAMES} & {*lopt.released()}))
def test_an_artifact_is_of_its_recipe(name):
    card = lopt.read(name).card
    assert sections.complete(card["config"]) == settings.resolve(recipe(name))


def test_the_page_of_releases_says_what_cards_say():
    page = (RECIPES.parent.parent / "docs" / "releases.md").read_text()
    assert releases.renewed(page) == page and "| in-dist-v1 | mu_mlp |" in page
    wrong = page.replace("| mu_mlp | none | ", "| mu_mlp | none | 9", 1)
    assert wrong != page and releases.renewed(wrong) == page


def test_evaluations_are_drawn_beside_the_page(tmp_path, monkeypatch):
    grown, apart = toy(), toy()
    for of in apart.settings["tasks"].values():
        of["growth"] = None
    apart.settings["suite"] = "apart-v1"
    for name, found in {"grown": grown, "apart": apart}.items():
        (tmp_path / name).mkdir()
        results.save(found, tmp_path / name)
    shapes, png = [], style.png
    monkeypatch.setattr(
        style, "png", lambda rows, of: shapes.append([*map(len, rows)]) or png(rows, of)
    )
    page = tmp_path / "page.md"
    page.write_text("| old |\n|---|\n\nText.\n")
    releases.main(
        [str(page), "--draw", str(tmp_path / "grown"), str(tmp_path / "apart")]
    )
    assert shapes == [[1], [3]]  # one line that grows; three tasks
    for suite in ("toy-v1", "apart-v1"):
        assert (tmp_path / f"page-{suite}.png").read_bytes().startswith(b"\x89PNG")
    assert "old" not in page.read_text() and "Text." in page.read_text()


@pytest.mark.parametrize("name", lopt.released())
def test_released_rules_do_what_they_did_and_say_what_for(name):
    assert lopt.verify(name) < 1e-5  # processors differ by up to 5e-7
    card = lopt.read(name).card
    assert card["verdict"] and "\n" not in card["verdict"]
    files = list(catalogue.find(name).iterdir())
    assert sum(len(file.read_bytes()) for file in files) < 100_000
    assert json.dumps(card)


def test_load_without_a_name_lists_the_released():
    found = lopt.load()
    assert list(found) == list(lopt.released())
    lines = repr(found).splitlines()
    assert [line.split()[0] for line in lines] == list(found)
    assert all(text in line for text, line in zip(found.values(), lines, strict=True))


@pytest.mark.parametrize("name", lopt.released())
@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e4, 1e18])
def test_updates_of_released_rules_ignore_the_scale_of_gradients(name, scale):
    params = {"w": jnp.linspace(-1, 1, 12).reshape(3, 4), "b": jnp.ones(4)}
    tx = lopt.load(name, num_steps=200)

    def last(scale):
        state = tx.init(params)
        for step in range(3):
            grads = jax.tree.map(lambda x, s=step: scale * jnp.cos(3 * x + s), params)
            updates, state = tx.update(grads, state, params)
        return updates

    # Five times the most that processors of any instruction set show. Entries that
    # nearly cancel in the network keep fewer digits than the leaf's largest.
    for a, b in zip(*map(jax.tree.leaves, (last(scale), last(1.0))), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())
