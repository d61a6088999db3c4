"""What varies from draw to draw: each share and class as often as it should be."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import SMALL

from tasks import base, data, families

VARY = {
    "init_scale": (0.5, 2.0),
    "label_noise": (0.3, 0.3),
    "classes": (3, 5),
    "examples": (0.2, 0.2),
    "batch_size": (4, 16),
}


@functools.cache
def family(*names):
    vary = {name: VARY[name] for name in names}
    return families.build("mlp", **SMALL["mlp"] | dict(batch_size=500, vary=vary))


@functools.cache
def drawn(*names, split="train", seed=3):
    """Returns a draw, and the inputs and labels of a batch of it."""
    own = family(*names)
    draw = own.sample(jax.random.key(seed))
    batch = own.task(draw).batch(own.data, jax.random.key(1), split)
    return draw, np.asarray(batch["input"]), np.asarray(batch["label"])


def on_device(inputs, labels):
    return {"input": jnp.asarray(inputs), "label": jnp.asarray(labels)}


def moved(task, key):
    """Returns parameters of which inputs and classes have logits of their own."""
    params = jax.tree.map(lambda x: x + 0.1, task.init(key))
    slopes = jax.random.normal(key, params["readout"]["kernel"].shape)
    return params | {"readout": params["readout"] | {"kernel": slopes}}


def truth(split="train"):
    """Returns {image: label} of a split of digits."""
    stored = data.load("digits")[split]
    labels = np.asarray(stored["label"])
    return {
        bytes(x): y for x, y in zip(np.asarray(stored["input"]), labels, strict=True)
    }


@pytest.mark.parametrize("split", ["train", "inner_valid"])
def test_batches_hold_only_classes_of_the_draw(split):
    draw, inputs, labels = drawn("classes", split=split)
    members = np.flatnonzero(draw["member"])
    assert 3 <= len(members) <= 5
    assert set(labels) == set(members)
    assert all(truth(split)[bytes(x)] == y for x, y in zip(inputs, labels, strict=True))


def test_all_classes_are_as_likely_to_be_of_a_draw():
    keys = jax.random.split(jax.random.key(0), 400)
    member = np.asarray(jax.vmap(family("classes").sample)(keys)["member"])
    assert set(member.sum(1)) == {3, 4, 5}
    np.testing.assert_allclose(member.mean(0), 0.4, atol=4 * (0.24 / 400) ** 0.5)


def test_all_examples_of_a_class_are_as_likely():
    _, inputs, _ = drawn("classes")
    draw, _, _ = drawn("classes")
    stored = [x for x, label in truth().items() if draw["member"][label]]
    seen = {bytes(x) for x in inputs}
    unseen = len(stored) * np.exp(-500 / len(stored))
    assert abs(len(stored) - len(seen) - unseen) < 4 * unseen**0.5


def test_a_share_of_each_class_is_trained_on_and_all_of_it_validated_on():
    counts = np.bincount(np.asarray(data.load("digits")["train"]["label"]))
    own, keys = family("examples"), jax.random.split(jax.random.key(0), 40)
    task = own.task(own.sample(jax.random.key(3)))
    batches = [task.batch(own.data, key, "train") for key in keys]
    seen = {bytes(x) for b in batches for x in np.asarray(b["input"])}
    labels = np.bincount([truth()[x] for x in seen], minlength=10)
    np.testing.assert_array_equal(labels, np.ceil(0.2 * counts))
    _, inputs, _ = drawn("examples", split="inner_valid")
    assert len({bytes(x) for x in inputs}) > 170  # of 200


def test_draws_are_trained_on_other_shares():
    seen = [{bytes(x) for x in drawn("examples", seed=n)[1]} for n in range(5)]
    assert len(set.union(*seen)) > 2 * max(map(len, seen))


def test_false_labels_are_the_same_examples_each_time():
    _, inputs, labels = drawn("label_noise")
    false = {bytes(x): y for x, y in zip(inputs, labels, strict=True)}
    right = truth()
    wrong = np.mean([right[x] != y for x, y in false.items()])
    assert abs(wrong - 0.3) < 4 * (0.3 * 0.7 / len(false)) ** 0.5
    own, (draw, *_) = family("label_noise"), drawn("label_noise")
    other = own.task(draw).batch(own.data, jax.random.key(9), "train")
    pairs = zip(np.asarray(other["input"]), np.asarray(other["label"]), strict=True)
    assert all(false.get(bytes(x), y) == y for x, y in pairs)
    clean = zip(*drawn("label_noise", split="test")[1:], strict=True)
    assert all(truth("test")[bytes(x)] == y for x, y in clean)


def test_false_labels_are_others_in_other_draws():
    (_, inputs, labels), (_, same, others) = (
        drawn("label_noise", seed=n) for n in (3, 4)
    )
    np.testing.assert_array_equal(inputs, same)
    assert np.mean(labels != others) > 0.3  # some half: false in one draw or the other


def test_false_labels_stay_within_the_classes_of_the_draw():
    draw, _, labels = drawn("classes", "label_noise")
    assert set(labels) <= set(np.flatnonzero(draw["member"]))


def test_loss_counts_no_more_examples_than_the_draws_batch_has():
    own, (draw, inputs, labels) = family("batch_size"), drawn("batch_size")
    size = int(draw["batch_size"])
    assert (
        4 <= size <= 16 and (labels[:size] >= 0).all() and (labels[size:] == -1).all()
    )
    task = own.task(draw)
    params = moved(task, jax.random.key(0))
    few, all_of_them = (
        base.loss(task, params, jax.random.key(0), on_device(x, y), ())[0]
        for x, y in ((inputs[:size], labels[:size]), (inputs, labels))
    )
    np.testing.assert_allclose(all_of_them, few, rtol=1e-5)


@pytest.mark.parametrize("split", ["inner_valid", "outer_valid", "test"])
def test_whole_batches_are_validated_on(split):
    _, _, labels = drawn("batch_size", split=split)
    assert (labels >= 0).all()


def test_validation_on_a_whole_split_counts_the_classes_of_the_draw():
    own, (draw, *_) = family("classes"), drawn("classes")
    task, stored = own.task(draw), own.data["inner_valid"]
    params = moved(task, jax.random.key(0))
    loss, aux = base.evaluate(task, params, jax.random.key(0), stored, ())
    members, losses = np.flatnonzero(draw["member"]), []
    for logits, label in zip(np.asarray(aux["logits"]), stored["label"], strict=True):
        if label in members:
            total = np.log(np.exp(logits[members].astype(np.float64)).sum())
            losses.append(total - logits[label])
    assert 0 < len(losses) < len(stored["label"])
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-4)


def test_loss_without_the_other_classes_is_that_of_fewer_logits():
    own, (draw, inputs, labels) = family("classes"), drawn("classes")
    task = own.task(draw)
    params = moved(task, jax.random.key(0))
    loss, aux = base.loss(
        task, params, jax.random.key(0), on_device(inputs, labels), ()
    )
    logits = np.asarray(aux["logits"])[:, np.asarray(draw["member"])]
    place = np.searchsorted(np.flatnonzero(draw["member"]), labels)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(shares[np.arange(len(labels)), place]).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    right = (logits.argmax(1) == place).mean()
    np.testing.assert_allclose(aux["correct"], right, rtol=1e-6)


def test_meta_loss_is_one_for_a_network_that_knows_nothing_of_few_classes():
    own, (draw, inputs, labels) = family("classes"), drawn("classes")
    task = own.task(draw)
    params, batch = task.init(jax.random.key(0)), on_device(inputs, labels)
    loss, _ = base.loss(task, params, jax.random.key(0), batch, ())
    np.testing.assert_allclose(task.normalise(loss), 1.0, rtol=1e-5)


def test_draws_differ_and_share_one_program():
    own = family(*VARY)

    @jax.jit
    def value(draw, arrays, key):
        task = own.task(draw)
        batch = task.batch(arrays, key, "train")
        return base.loss(task, moved(task, key), key, batch, ())[0]

    key = jax.random.key(0)
    draws = [own.sample(jax.random.key(seed)) for seed in range(3)]
    values = [float(value(draw, own.data, key)) for draw in draws]
    assert len(set(values)) == 3 and np.isfinite(values).all()
    assert value._cache_size() == 1


@pytest.mark.parametrize(
    ("name", "vary", "message"),
    [
        ("mlp", {"klasses": (2, 3)}, "Did you mean 'classes'"),
        ("mlp", {"classes": (2, 11)}, r"within \[2, 10\]"),
        ("mlp", {"label_noise": (0.5, 0.2)}, "low <= high"),
        ("mlp", {"examples": (0.0, 1.0)}, "must be within"),
        ("mlp", {"batch_size": (1, 64)}, r"within \[1, 32\]"),
        ("transformer", {"classes": (2, 3)}, "text has no labels"),
        ("transformer", {"label_noise": (0.0, 0.1)}, "text has no labels"),
    ],
)
def test_impossible_ranges_are_refused(name, vary, message):
    with pytest.raises(ValueError, match=message):
        families.build(name, **SMALL[name] | {"vary": vary})


def test_numbers_as_labels_have_no_classes_to_vary():
    args = SMALL["mlp"] | {"dataset": "diabetes", "vary": {"label_noise": (0.0, 0.1)}}
    with pytest.raises(ValueError, match="need labels that are classes"):
        families.build("mlp", **args)
