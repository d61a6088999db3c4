"""An artifact's run is made again from its card, and its first losses compared."""

import json

import pytest
import tiny

import meta_train.run
from lopt import artifact
from meta_train import reproduce
from meta_train.export import curve, export
from meta_train.logging import METRICS
from meta_train.loop import loop


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Returns the artifact of a tiny run, and the losses of its first meta-steps."""
    c, workdir = tiny.get_config(), tmp_path_factory.mktemp("run")
    c.outer.num_steps = 6
    run = meta_train.run.build(c)
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


def test_one_bit_of_one_loss_is_told(made, tmp_path):
    path, losses = made
    other = [*losses[:4], losses[4] * (1 + 2**-23), losses[5]]
    with pytest.raises(SystemExit, match="meta-step 5 has another loss than on"):
        reproduce.main([changed(path, tmp_path, curve=other)])


@pytest.mark.parametrize("fields", [{"curve": None}, {"config": {"seed": 0}}])
def test_a_card_that_does_not_say_how_is_an_error(made, tmp_path, fields):
    with pytest.raises(SystemExit, match="error: (the card of .* has no curve|.*key)"):
        reproduce.main([changed(made[0], tmp_path, **fields)])
