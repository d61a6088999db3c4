"""An option that is added with a default changes no config, card or run of before."""

import inspect

import jax
import pytest
import tiny

import lopt
from common import settings
from meta_train import build, sections, workdir
from meta_train.artifacts import export, reproduce
from meta_train.inner import options
from meta_train.loop import loop


@pytest.fixture
def extra(monkeypatch):
    """Adds an option to inner training, as a later version would."""
    plain = options.inner

    def inner(*, extra: float = 0.5, **given):
        assert extra == 0.5
        return plain(**given)

    added = inspect.Parameter("extra", inspect.Parameter.KEYWORD_ONLY, default=0.5)
    signature = inspect.signature(plain)
    parameters = [*signature.parameters.values(), added.replace(annotation=float)]
    inner.__signature__ = signature.replace(parameters=parameters)

    def add():
        monkeypatch.setattr(options, "inner", inner)

    return add


@pytest.mark.parametrize("name", lopt.released())
def test_every_released_card_still_builds(extra, name):
    card = lopt.read(name).card
    extra()
    run = build.build(card["config"])
    assert run.config["inner"]["extra"] == 0.5
    names = [family.name for family in run.families.values()]
    assert names == card["families"][0]["full_names"]


@pytest.mark.parametrize("name", lopt.released())
def test_the_run_of_every_released_card_goes_on(extra, name, tmp_path):
    config = lopt.read(name).card["config"]
    workdir.claim(tmp_path, config)
    extra()
    after = sections.complete(config)
    assert after["inner"]["extra"] == 0.5
    workdir.claim(tmp_path, after, complete=sections.complete)


RELEASED = [
    pytest.param(name, marks=[] if name == "demo" else pytest.mark.slow)
    for name in lopt.released()
]


@pytest.mark.parametrize("name", RELEASED)
def test_the_first_meta_step_of_every_released_card_is_made_again(extra, name):
    card = lopt.read(name).card
    extra()
    gaps = reproduce.differences(build.build(card["config"]), card["curve"][:1])
    assert gaps[0] <= reproduce.bound(1, mean_of="runs")


def test_a_run_resumes_and_is_made_again(extra, tmp_path):
    c = tiny.get_config()
    c.outer.num_steps = 20
    before = build.build(c)
    workdir.claim(tmp_path, before.config)
    loop(before, tmp_path, stop=iter([False] * 10 + [True] * 9).__next__)
    extra()
    run = build.build(c)
    workdir.claim(tmp_path, run.config, complete=sections.complete)
    progress = loop(run, tmp_path)
    assert progress.step == 20
    made = {"command": "", "curve": export.curve(tmp_path)}
    artifact = export.export(before, progress, tmp_path / "artifact", **made)
    card = lopt.read(artifact).card
    assert "extra" not in card["config"]["inner"]
    gaps = reproduce.differences(build.build(card["config"]), card["curve"])
    assert gaps == [0.0] * 20


def test_a_completed_config_is_complete():
    for variant in ("", "quick,pes", "implicit"):
        full = sections.complete(tiny.demo(variant))
        assert sections.complete(full) == full == settings.resolve(full)


def test_weights_of_cards_of_before_are_those_of_today():
    old = {"name": "smoke-v1", "args": {"quadratic": 2.0}}
    (family,) = {str(sections.complete({"family": old})["family"])}
    weights = {"softmax_regression": 1.0, "quadratic": 2.0}
    assert family == str({"name": "smoke-v1", "args": {}, "weights": weights})


def test_the_default_length_of_validation_is_the_longest_horizon():
    c = tiny.get_config("validated")
    named = build.build(c)
    c.validation.lengths = ()
    theta = named.learner.init(named.data).theta
    scores = build.build(c).scores(theta)
    c.validation.lengths = (max(c.inner.horizon),)
    assert jax.tree.map(float, scores) == jax.tree.map(
        float, build.build(c).scores(theta)
    )
