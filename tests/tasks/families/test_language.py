"""Language models against loops in NumPy, Flax's cells, and causality."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks import data
from tasks.families import language
from tasks.networks import recurrence

TEXT = dict(dataset="stdlib", context=6, width=8, base_width=4, batch_size=3, vary={})
SETTINGS = {
    "lstm": dict(cell="lstm", depth=2),
    "gru": dict(cell="gru", depth=2),
    "vanilla": dict(cell="vanilla", depth=2),
    "transformer": dict(depth=1, heads=2, mlp_ratio=2, activations=("tanh",)),
}
every_model = pytest.mark.parametrize("name", SETTINGS)
every_cell = pytest.mark.parametrize("cell", recurrence.CELLS)


def build(name, **more):
    builder = language.transformer if name == "transformer" else language.recurrent
    return builder(**{**TEXT, **SETTINGS[name], "zero_readout": False, **more})


@functools.cache
def start(name):
    """Returns family, draw, task, a batch, and parameters with biases that count."""
    family = build(name)
    draw = family.sample(jax.random.key(0))
    task = family.task(draw)
    params = jax.jit(task.init)(jax.random.key(1))
    params = jax.tree.map(lambda p: p + 0.1, params)
    batch = task.batch(family.data, jax.random.key(2), "train")
    return family, draw, task, batch, params


def logits(name, text):
    family, draw, _, _, params = start(name)
    outputs = jax.jit(lambda p, x: family.outputs(draw, p, {"input": x}))
    return outputs(params, text)["readout"]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_by_hand(layer, kernel, x):
    """Returns hidden states [t, w] of an LSTM for one text."""
    h, c, outputs = np.zeros(8), np.zeros(8), []
    for step in x:
        gates = layer["kernel"].T @ step + layer["bias"] + kernel.T @ h
        i, f, g, o = gates[:8], gates[8:16], gates[16:24], gates[24:]
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.array(outputs)


def gru_by_hand(layer, kernel, x):
    """Returns hidden states [t, w] of a GRU for one text."""
    h, outputs = np.zeros(8), []
    for step in x:
        a, b = layer["kernel"].T @ step + layer["bias"], kernel.T @ h
        r, z = sigmoid(a[:8] + b[:8]), sigmoid(a[8:16] + b[8:16])
        h = z * h + (1 - z) * np.tanh(a[16:] + r * b[16:])
        outputs.append(h)
    return np.array(outputs)


def vanilla_by_hand(layer, kernel, x):
    """Returns hidden states [t, w] of a network without gates for one text."""
    h, outputs = np.zeros(8), []
    for step in x:
        h = np.tanh(layer["kernel"].T @ step + layer["bias"] + kernel.T @ h)
        outputs.append(h)
    return np.array(outputs)


def readout_by_hand(params, x):
    """Returns logits, multiplied by the base width, 4, over the width, 8."""
    product = x @ params["readout"]["kernel"] * (4 / 8)
    return product + params["readout"]["bias"][None]


@every_cell
def test_recurrent_logits_equal_a_loop_over_bytes(cell):
    *_, batch, params = start(cell)
    params = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    by_hand = {"lstm": lstm_by_hand, "gru": gru_by_hand, "vanilla": vanilla_by_hand}
    for text, actual in zip(batch["input"], logits(cell, batch["input"]), strict=True):
        x = params["embed"]["embedding"][np.asarray(text)]
        for i in (0, 1):
            x = by_hand[cell](params[f"input{i}"], params[f"recurrent{i}"]["kernel"], x)
        np.testing.assert_allclose(actual, readout_by_hand(params, x), atol=1e-5)


def flax_cell(cell, inner, kernel, bias):
    """Returns Flax's cell, and our kernels as its parameters."""
    if cell == "vanilla":
        own = {"i": {"kernel": inner, "bias": bias}, "h": {"kernel": kernel}}
        return nn.SimpleCell(8), own
    names = {"lstm": ["i", "f", "g", "o"], "gru": ["r", "z", "n"]}[cell]
    split = functools.partial(np.split, indices_or_sections=len(names), axis=-1)
    params, rows = {}, zip(names, split(inner), split(kernel), split(bias), strict=True)
    for name, into, carried, b in rows:
        params |= {f"i{name}": {"kernel": into}, f"h{name}": {"kernel": carried}}
        params["h" + name if cell == "lstm" else "i" + name]["bias"] = b
    if cell == "gru":
        params["hn"]["bias"] = np.zeros(8)
    return {"lstm": nn.LSTMCell, "gru": nn.GRUCell}[cell](8), params


@every_cell
@jax.numpy_rank_promotion("allow")  # Flax's cells add biases without writing it out
def test_recurrence_equals_the_cell_of_flax(cell):
    family, draw, _, batch, params = start(cell)
    outputs = family.outputs(draw, params, batch)
    theirs, weights = flax_cell(
        cell,
        params["input0"]["kernel"],
        params["recurrent0"]["kernel"],
        params["input0"]["bias"],
    )
    expected = nn.RNN(theirs).apply({"params": {"cell": weights}}, outputs["embed"])
    np.testing.assert_allclose(outputs["recurrent0"], expected, atol=1e-5)


def test_attention_logits_are_among_the_outputs_before_the_mask():
    family, draw, _, batch, params = start("transformer")
    seen = family.outputs(draw, params, batch)
    query, key = (
        np.asarray(seen[f"block0/attend/{name}"]).reshape(3, 6, 2, 4)
        for name in ("query", "key")
    )
    for q, k, found in zip(query, key, seen["block0/attend/logits"], strict=True):
        expected = [q[:, h] @ k[:, h].T * (2**0.5 / 4) for h in (0, 1)]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def norm_by_hand(layer, x):
    centred = x - x.mean(1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-6)
    return scaled * layer["scale"][None] + layer["bias"][None]


def dense_by_hand(layer, x):
    return x @ layer["kernel"] + layer.get("bias", np.zeros(1))[None]


def attend_by_hand(layer, x):
    """Returns two causal heads of size 4 (2 at the base width), byte by byte."""
    query, key, value = (x @ layer[n]["kernel"] for n in ("query", "key", "value"))
    gathered = np.zeros_like(value)
    for now in range(len(x)):
        for head in (slice(0, 4), slice(4, 8)):
            scores = key[: now + 1, head] @ query[now, head] * (2**0.5 / 4)
            shares = np.exp(scores) / np.exp(scores).sum()
            gathered[now, head] = shares @ value[: now + 1, head]
    return dense_by_hand(layer["out"], gathered)


def test_transformer_logits_equal_a_loop_over_bytes():
    *_, batch, params = start("transformer")
    params = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    block, texts = params["block0"], np.asarray(batch["input"])
    for text, actual in zip(texts, logits("transformer", texts), strict=True):
        x = params["embed"]["embedding"][text] + params["position"]["embedding"]
        x = x + attend_by_hand(block["attend"], norm_by_hand(block["attend_norm"], x))
        hidden = norm_by_hand(block["mlp_norm"], x)
        hidden = np.tanh(dense_by_hand(block["mlp"]["expand"], hidden))
        x = x + dense_by_hand(block["mlp"]["project"], hidden)
        expected = readout_by_hand(params, norm_by_hand(params["norm"], x))
        np.testing.assert_allclose(actual, expected, atol=1e-4)


@every_model
def test_a_later_byte_changes_no_earlier_logits(name):
    text = jnp.asarray(start(name)[3]["input"])
    changed = text.at[:, 3].set(255 - text[:, 3])
    one, two = logits(name, text), logits(name, changed)
    np.testing.assert_array_equal(one[:, :3], two[:, :3])
    assert (jnp.abs(one - two).max(-1)[:, 3:] > 1e-5).all()


@every_model
def test_loss_is_nats_per_byte_and_log_256_with_a_zero_readout(name):
    family = build(name, zero_readout=True)
    _, _, task, batch, _ = start(name)
    ignorant = family.task(family.sample(jax.random.key(0))).init(jax.random.key(1))
    loss, aux = task.loss(ignorant, None, batch)
    assert aux["logits"].shape == (3, 6, 256)
    np.testing.assert_allclose(loss, np.log(256), rtol=1e-6)
    np.testing.assert_allclose(task.normalise(loss), 1, rtol=1e-6)


@every_model
def test_loss_at_init_is_near_log_256(name):
    family = build(name, batch_size=64, width=32)

    def loss(key):
        task = family.task(family.sample(key))
        batch = task.batch(family.data, key, "train")
        return task.loss(task.init(key), None, batch)[0]

    losses = jax.jit(jax.vmap(loss))(jax.random.split(jax.random.key(0), 8))
    # Logits have variance 4/32 or less, and so add 1/16 nats at most, on average.
    assert abs(losses.mean() - np.log(256)) < 0.1


@every_model
def test_labels_are_the_bytes_that_follow(name):
    family, _, _, batch, _ = start(name)
    pairs = np.concatenate([batch["input"][:, :1], batch["label"]], 1)
    stored = {bytes(row) for row in np.asarray(family.data["train"]["input"])}
    assert {bytes(row.astype(np.uint8)) for row in pairs} <= stored
    np.testing.assert_array_equal(batch["input"][:, 1:], batch["label"][:, :-1])


@pytest.mark.parametrize(
    ("name", "sizes", "thousands"),
    [
        ("lstm", dict(width=64, depth=1), 66),
        ("gru", dict(width=64, depth=2), 83),
        ("transformer", dict(width=64, depth=2, mlp_ratio=4, context=64), 137),
    ],
)
def test_parameters_are_as_many_as_documented(name, sizes, thousands):
    family = build(name, **sizes)
    count = sum(leaf.size for leaf in jax.tree.leaves(family.shapes))
    w, depth = 64, sizes["depth"]
    layer = {"lstm": 4 * (2 * w + 1) * w, "gru": 3 * (2 * w + 1) * w}
    layer["transformer"] = 12 * w**2 + 10 * w
    outside = 512 * w + 256 + (66 * w if name == "transformer" else 0)
    assert count == depth * layer[name] + outside
    assert round(count / 1000) == thousands


@pytest.mark.parametrize(("name", "axes"), [("lstm", 4), ("gru", 3)])
def test_kernels_grow_in_fan_in_first(name, axes):
    family = build(name)
    for layer in ("input1", "recurrent1"):
        assert family.shapes[layer]["kernel"].shape == (8, 8 * axes)
        assert family.base_shapes[layer]["kernel"].shape == (4, 4 * axes)
    assert family.shapes["embed"]["embedding"].shape == (256, 8)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("lstm", dict(cell="lsmt"), "Did you mean 'lstm'"),
        ("lstm", dict(depth=0), "depth must be at least 1"),
        ("gru", dict(context=0), "context must be at least 1"),
        ("gru", dict(width=0), "^width must be at least 1, got 0"),
        ("lstm", dict(batch_size=0), "batch_size must be at least 1, got 0"),
        ("lstm", dict(vary={"batch_size": (1, 2.5)}), r"must be whole, got \(1, 2.5"),
        ("gru", dict(dataset="tiny_shakespear"), "Near matches: tiny_shakespeare"),
        ("transformer", dict(heads=3), "heads must divide"),
        ("transformer", dict(activations=("rleu",)), "Did you mean 'relu'"),
        ("transformer", dict(dataset="digits"), "has inputs of shape"),
    ],
)
def test_wrong_settings_are_errors_that_say_what_is_known(name, wrong, message):
    with pytest.raises((ValueError, data.DatasetNotFound), match=message):
        build(name, **wrong)
