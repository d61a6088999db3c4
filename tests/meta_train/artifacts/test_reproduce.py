"""An artifact's run is made again from its card, and its first losses compared."""

import json

import jax
import numpy as np
import optax
import pytest
import tiny
from toy_run import toy_run

import meta_train.build
from lopt import artifact
from meta_train.artifacts import reproduce
from meta_train.artifacts.export import curve, export
from meta_train.estimators import ESTIMATORS
from meta_train.logging import METRICS
from meta_train.loop import loop

SEEN = [1e-8, 1e-6, 5e-5, 7e-3, 0.5, 0.5]  # of `demo`; the last two, from 25 on


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Returns the artifact of a tiny run, and the losses of its first meta-steps."""
    c, workdir = tiny.get_config(), tmp_path_factory.mktemp("run")
    c.outer.num_steps = 6
    run = meta_train.build.build(c)
    progress, losses = loop(run, workdir), curve(workdir)
    made = {"command": "python -m meta_train --workdir=run", "curve": losses}
    return export(run, progress, workdir / "artifact", **made), losses


def changed(path, tmp_path, **fields):
    """Returns a copy of an artifact with other fields in its card."""
    copy = tmp_path / "copy"
    copy.mkdir()
    card = json.loads((path / "card.json").read_text()) | fields
    card["digest"] = artifact.digest(card)
    (copy / "card.json").write_text(json.dumps(card))
    (copy / "theta.safetensors").write_bytes((path / "theta.safetensors").read_bytes())
    return str(copy)


def test_a_card_keeps_the_first_losses_and_they_are_made_again(made, capsys):
    path, losses = made
    rows = [*map(json.loads, (path.parent / METRICS).read_text().splitlines())]
    assert losses == [row["loss"] for row in rows] and len({*losses}) == 6
    reproduce.main([str(path)])
    assert capsys.readouterr().out.startswith("The losses of 6 meta-steps are equal")


def test_one_bit_of_one_loss_is_told_and_taken_for_rounding(made, tmp_path, capsys):
    path, losses = made
    other = [*losses[:4], losses[4] * (1 + 2**-23), losses[5]]
    reproduce.main([changed(path, tmp_path, curve=other)])
    said = capsys.readouterr().out
    assert said.startswith("Meta-step 5 is the first with another loss than on")
    assert "0.0e+00 at the last, 6, and" in said and "no more than rounding" in said


def longer(params, updates):
    """Returns parameters after an update that is a tenth too long."""
    return jax.tree.map(lambda p, u: p + 1.1 * u, params, updates)


def test_broken_code_is_told_from_rounding(made, monkeypatch, capsys):
    monkeypatch.setattr(optax, "apply_updates", longer)
    with pytest.raises(SystemExit, match="Meta-step 1 .* does something else") as end:
        reproduce.main([str(made[0])])
    assert isinstance(end.value.code, str)  # which is an exit with 1
    assert "Meta-step 1 is the first" in capsys.readouterr().out


def walked(steps):
    """Returns the losses of the toy run."""
    learner = toy_run().learner
    state, losses = learner.init(None), []
    for _ in range(steps):
        state, metrics = learner.step(state, 1.0)
        losses.append(float(metrics["loss"]))
    return losses


def test_differences_are_relative_to_the_mean_size_of_losses():
    losses = walked(3)
    curve = [-losses[0], None, losses[2]]
    size = (abs(losses[0]) + abs(losses[2])) / 2
    expected = [2 * abs(losses[0]) / size, np.inf, 0.0]
    assert reproduce.differences(toy_run(), curve) == pytest.approx(expected)


def test_the_bound_grows_from_a_few_roundings_to_losses_of_another_run():
    bounds = [reproduce.bound(x, mean_of="windows") for x in (1, 2, 3, 5, 25, 10_000)]
    # SEEN is the most that runs with the instructions of two processors were apart.
    assert np.all(np.array(bounds) > SEEN) and bounds[0] < 1e-5
    assert bounds == sorted(bounds) and bounds[-1] == pytest.approx(reproduce.MOST)


def test_rounding_has_grown_by_the_end_of_a_whole_run():
    bounds = [reproduce.bound(step, mean_of="runs") for step in (1, 2, 10_000)]
    assert 2e-2 < bounds[0] < bounds[1] == bounds[2] == pytest.approx(reproduce.MOST)
    whole = [name for name in ESTIMATORS if name in reproduce.WHOLE]
    assert sorted(whole) == sorted(reproduce.WHOLE)


@pytest.mark.parametrize("fields", [{"curve": None}, {"config": {"seed": 0}}])
def test_a_card_that_does_not_say_how_is_an_error(made, tmp_path, fields):
    with pytest.raises(SystemExit, match="error: (the card of .* has no curve|.*key)"):
        reproduce.main([changed(made[0], tmp_path, **fields)])
