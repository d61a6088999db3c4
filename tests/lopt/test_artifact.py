"""Artifacts round-trip, refuse damage by name, and load as Optax optimizers."""

import json
import math
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_rule import ARGS, descending, save

import lopt
from lopt import artifact, catalogue, mup, rules, schedules

PARAMS = {"w": jnp.linspace(-1, 1, 12).reshape(3, 4), "b": jnp.ones(4)}
GRADS = jax.tree.map(lambda x: 0.1 * jnp.cos(3 * x), PARAMS)
CARD = {"trained_widths": [0.5, 2.0], "trained_horizon": [100, 200], "note": "kept"}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save(tmp_path_factory.mktemp("artifact") / "tiny", card=CARD)


def first_update(tx):
    return jax.jit(tx.update)(GRADS, tx.init(PARAMS), PARAMS)[0]


def test_theta_and_rule_come_back_as_saved(path):
    theta, rule, card = lopt.read(path)
    expected = descending(rules.build("mlp", **ARGS))
    assert jax.tree.structure(theta) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, theta, expected)
    assert card["rule"] == {"name": "mlp", "args": ARGS | {"time": ["relative"]}}


def test_card_has_every_field_and_keeps_others(path):
    card = json.loads((path / "card.json").read_text())
    assert set(artifact.FIELDS) <= set(card) and card["note"] == "kept"
    assert card["families"] is None and card["trained_widths"] == [0.5, 2.0]


def test_loaded_optimizer_is_the_rule_then_mup_then_learning_rate(path):
    shapes = jax.tree.map(lambda x: np.zeros(2 * np.array(x.shape)), PARAMS)
    info = mup.infer(shapes, PARAMS)
    theta, rule, _ = lopt.read(path)
    plain = first_update(rule.bind(theta, num_steps=150))
    got = first_update(lopt.load(path, num_steps=150, mup=info, learning_rate=0.5))
    np.testing.assert_allclose(got["w"], 0.25 * plain["w"], rtol=1e-6)
    np.testing.assert_allclose(got["b"], 0.5 * plain["b"], rtol=1e-6)


def test_learning_rate_may_be_a_schedule(path):
    rate = optax.piecewise_constant_schedule(0.0, {})
    got = first_update(lopt.load(path, num_steps=150, learning_rate=rate))
    assert not np.any(got["w"])


def test_schedule_of_the_card_applies_unless_another_is_given(tmp_path):
    peak = {"name": "linear", "peak": 0.1, "warmup": 0.2}
    save(tmp_path / "n", head="normalised", step_mult=1.0, card={"schedule": peak})
    shape = np.array([0.5, 0.9, 0.8, 0.7])  # of a peak; two of ten steps are warm-up

    def sizes(**given):
        tx = lopt.load(tmp_path / "n", **given)
        state, update, found = tx.init(PARAMS), jax.jit(tx.update), []
        for _ in shape:
            updates, state = update(GRADS, state, PARAMS)
            found.append(np.sqrt(np.mean(np.square(updates["w"]))))
        return np.array(found)

    ten = {"num_steps": 10}
    np.testing.assert_allclose(sizes(**ten), 0.1 * shape, rtol=1e-4)
    # A number is the peak of that schedule, so that it warms up; a schedule is all.
    found = sizes(**ten, learning_rate=0.3)
    np.testing.assert_allclose(found, 0.3 * shape, rtol=1e-4)
    found = sizes(**ten, learning_rate=optax.constant_schedule(0.3))
    np.testing.assert_allclose(found, 0.3, rtol=1e-4)


def test_missing_num_steps_is_an_error(path, tmp_path):
    with pytest.raises(ValueError, match="pass num_steps"):
        lopt.load(path)
    peak = {"name": "linear", "peak": 0.1}
    save(tmp_path / "n", head="normalised", time=("absolute",), card={"schedule": peak})
    with pytest.raises(ValueError, match="pass num_steps"):
        lopt.load(tmp_path / "n")
    lopt.load(tmp_path / "n", learning_rate=0.1)


@pytest.mark.parametrize("rate", [-0.1, np.float32(-0.1), jnp.float32(-0.1)])
def test_negative_learning_rate_is_an_error(path, rate):
    with pytest.raises(ValueError, match="descend already"):
        lopt.load(path, num_steps=100, learning_rate=rate)


@pytest.mark.parametrize("argument", ["learning_rate", "guard"])
@pytest.mark.parametrize("rate", [True, False, "adam", "1e-3", math.nan, jnp.inf])
def test_a_rate_that_is_no_number_is_an_error(path, argument, rate):
    with pytest.raises(ValueError, match=f"{argument} must be a rate, such as"):
        lopt.load(path, num_steps=100, **{argument: rate})


@pytest.mark.parametrize("argument", ["num_steps", "mup", "learning_rate", "guard"])
def test_arguments_of_no_rule_are_an_error(argument):
    value = mup.infer(PARAMS, PARAMS) if argument == "mup" else 1
    with pytest.raises(ValueError, match="which rule.*demo, mu_mlp"):
        lopt.load(**{argument: value})


ENTRANCES = {
    "load": lambda path, n: lopt.load(path, num_steps=n),
    "build": lambda path, n: lopt.build("mlp", **ARGS).bind(
        lopt.read(path).theta, num_steps=n
    ),
    "baseline": lambda path, n: lopt.BASELINES["adam"].build(
        num_steps=n, learning_rate=0.1
    ),
    "schedule": lambda path, n: schedules.build("linear", peak=0.1, num_steps=n),
}
every_entrance = pytest.mark.parametrize("entrance", ENTRANCES)


@every_entrance
def test_a_length_that_is_no_number_of_updates_is_an_error(path, entrance):
    for bad in (0, -5, np.int32(0), jnp.float32(-1)):
        with pytest.raises(ValueError, match="num_steps must be at least 1, got"):
            ENTRANCES[entrance](path, bad)
    flags = True, np.bool_(True), jnp.array(True)
    other = "200", "long", math.nan, math.inf, 200.5, 1e-3, 2j, [200], np.ones(1)
    for bad in (*flags, *other):
        with pytest.raises(ValueError, match="num_steps must be a whole number"):
            ENTRANCES[entrance](path, bad)


@pytest.mark.parametrize("kind", [int, float, np.int64, np.float32, jnp.int32])
@every_entrance
def test_a_whole_number_of_any_type_is_a_length(path, entrance, kind):
    ENTRANCES[entrance](path, kind(150))


def counted(tx, updates):
    """Returns the warnings of so many updates, outside of `jit`."""
    params = {"s": jnp.float32(0.5)}
    state = tx.init(params)
    with warnings.catch_warnings(record=True, action="always") as found:
        for _ in range(updates):
            _, state = tx.update(params, state, params, value=jnp.float32(1))
    return [str(warning.message) for warning in found]


@pytest.mark.parametrize("guard", [None, 1e-3])
def test_an_update_after_the_last_warns_once(tmp_path, guard):
    path = save(tmp_path / "x")
    assert not counted(lopt.load(path, num_steps=3, guard=guard), 3)
    (message,) = counted(lopt.load(path, num_steps=3, guard=guard), 6)
    assert message.startswith("more updates than num_steps=3")


def test_baselines_under_a_learned_decay_warn_too(tmp_path):
    args = {"baseline": "adam", "learning_rate": 0.1, "initial": 1e-3}
    theta = rules.build("weight_decay", **args).init(jax.random.key(0))
    artifact.save(
        tmp_path / "x", rule="weight_decay", rule_args=args, theta=theta, card={}
    )
    assert len(counted(lopt.load(tmp_path / "x", num_steps=1), 3)) == 1


def test_updates_whose_number_is_not_known_are_silent(tmp_path):
    tx = lopt.load(save(tmp_path / "x"), num_steps=1)
    jitted = optax.GradientTransformationExtraArgs(tx.init, jax.jit(tx.update))
    assert not counted(jitted, 3)


def test_traced_num_steps_is_accepted(path):
    updates = jax.jit(lambda n: first_update(lopt.load(path, num_steps=n)))(300)
    with pytest.warns(UserWarning):
        expected = first_update(lopt.load(path, num_steps=300))
    np.testing.assert_allclose(updates["w"], expected["w"], rtol=1e-5)


@pytest.mark.parametrize("num_steps", [99, 201])
def test_horizon_outside_the_trained_one_warns(path, num_steps):
    with pytest.warns(UserWarning, match=f"{num_steps}.*trained_horizon.*100 to 200"):
        lopt.load(path, num_steps=num_steps)


def test_width_outside_the_trained_ones_warns(path):
    info = mup.infer({"w": np.zeros((12, 12))}, {"w": np.zeros((4, 4))})
    with pytest.warns(UserWarning, match="3.0.*trained_widths.*0.5 to 2.0"):
        lopt.load(path, num_steps=100, mup=info)


def test_use_within_the_trained_ranges_is_silent(path):
    info = mup.infer({"w": np.zeros((8, 8))}, {"w": np.zeros((4, 4))})
    with warnings.catch_warnings(action="error"):
        lopt.load(path, num_steps=200, mup=info)


def edited(path, place, edit):
    """Returns a copy of an artifact with its card changed by `edit`."""
    shutil.copytree(path, place)
    card = json.loads((place / "card.json").read_text())
    edit(card)
    card["digest"] = artifact.digest(card)
    (place / "card.json").write_text(json.dumps(card))
    return place


def test_flipped_bit_of_the_weights_is_named(path, tmp_path):
    shutil.copytree(path, tmp_path / "x")
    file = tmp_path / "x" / "theta.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"{file}: its SHA-256"):
        lopt.load(tmp_path / "x", num_steps=100)


@pytest.mark.parametrize("name", ["theta.safetensors", "card.json"])
def test_missing_file_is_named(path, tmp_path, name):
    shutil.copytree(path, tmp_path / "x")
    (tmp_path / "x" / name).unlink()
    with pytest.raises(ValueError, match=f"{name}: cannot be read"):
        lopt.read(tmp_path / "x")


def test_truncated_card_is_named(path, tmp_path):
    shutil.copytree(path, tmp_path / "x")
    card = tmp_path / "x" / "card.json"
    card.write_text(card.read_text()[:100])
    with pytest.raises(ValueError, match="card.json: not JSON"):
        lopt.read(tmp_path / "x")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.update(schema=1), "card.json: its schema is 1"),
        (lambda c: c.pop("golden"), "card.json: lacks golden"),
        (lambda c: c["rule"].update(name="lstm"), "card.json: .*known: mlp"),
        (lambda c: c["rule"]["args"].update(units=4), "card.json: .*units"),
        (
            lambda c: c["rule"]["args"].update(hidden=5),
            r"theta.safetensors: 'network/b0' has shape \(4,\), the rule's is \(5,\)",
        ),
    ],
)
def test_failed_checks_name_file_and_reason(path, tmp_path, edit, message):
    with pytest.raises(ValueError, match=message):
        lopt.read(edited(path, tmp_path / "x", edit))


def test_an_edited_card_is_refused(path, tmp_path):
    shutil.copytree(path, tmp_path / "x")
    file = tmp_path / "x" / "card.json"
    file.write_text(file.read_text().replace('"clip": 8.0', '"clip": 1.0'))
    with pytest.raises(ValueError, match=f"{file}: its SHA-256 is not its `digest`"):
        lopt.load(tmp_path / "x", num_steps=100)


def damaged(content):
    """Yields copies with a flipped bit, or a piece or line missing or there twice."""
    draws = np.random.default_rng(0).integers((len(content), 8, 40), size=(400, 3))
    for at, bit, size in draws.tolist():
        yield content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
        yield content[: at + size] + content[at:]
        yield content[:at] + content[at + size :]
    lines = content.splitlines(keepends=True)
    for i in range(len(lines)):
        yield b"".join(lines[: i + 1] + lines[i:])
    yield content * 2


def test_damaged_cards_are_refused_by_name_or_say_the_same(path, tmp_path):
    shutil.copytree(path, tmp_path / "x")
    file = tmp_path / "x" / "card.json"
    content, cases = file.read_bytes(), 0
    for case in damaged(content):
        file.write_bytes(case)
        try:
            card = artifact.read(tmp_path / "x").card
        except ValueError as error:
            assert str(error).startswith(f"{file}: "), case
            cases += 1
        else:
            assert card == json.loads(content), case
    assert cases > 800


def test_golden_output_is_reproduced_and_a_change_found(path, tmp_path):
    assert lopt.verify(path) < 1e-6

    def edit(card):
        card["golden"]["updates"][1]["v"][0] *= 1.01

    with pytest.raises(ValueError, match="card.json: golden"):
        lopt.verify(edited(path, tmp_path / "x", edit))


def test_unknown_name_lists_the_released_ones(tmp_path, monkeypatch):
    save(tmp_path / "checkpoints" / "tiny")
    monkeypatch.setattr(catalogue, "_shelf", lambda: tmp_path / "checkpoints")
    assert lopt.released() == ("tiny",)
    lopt.read("tiny")
    with pytest.raises(ValueError, match="no artifact 'tyni'.*released: tiny"):
        lopt.load("tyni")


def test_saving_again_replaces_and_leaves_nothing_beside(tmp_path):
    save(tmp_path / "x")
    save(tmp_path / "x", hidden=5)
    assert lopt.read(tmp_path / "x").card["rule"]["args"]["hidden"] == 5
    assert [x.name for x in tmp_path.iterdir()] == ["x"]


def test_saving_over_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(FileExistsError, match="holds other files"):
        save(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_saving_the_wrong_shapes_is_refused(tmp_path):
    theta = descending(rules.build("mlp", **ARGS))
    with pytest.raises(ValueError, match="'network/b0' has shape"):
        artifact.save(
            tmp_path / "x", rule="mlp", rule_args=ARGS | {"hidden": 5}, theta=theta,
            card={},
        )  # fmt: skip
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", lopt.released())
def test_released_artifacts_are_small_and_do_what_they_did(name):
    place = catalogue.find(name)
    assert sum(x.stat().st_size for x in place.iterdir()) < 100_000
    lopt.verify(name)
