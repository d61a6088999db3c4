"""muP MLPs that classify images."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt8

from tasks import data, layers
from tasks.base import Draw, Params, Task, TaskFamily, known, log_uniform, normaliser

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}


class Network(nn.Module):
    """A multilayer perceptron on images: `depth` hidden layers, then the readout.

    Attributes:
      width: units per hidden layer.
      base_width: the width at which muP and standard parametrization agree.
      depth: hidden layers.
      classes: logits.
      moments: mean and standard deviation of a pixel, which standardise the input.
      image_shape: height, width and channels.
      activations: names in `ACTIVATIONS`.
      parametrization: "mup" or "standard".
      zero_readout: whether the readout starts at zero.
    """

    width: int
    base_width: int
    depth: int
    classes: int
    moments: tuple[float, float]
    image_shape: tuple[int, ...]
    activations: tuple[str, ...]
    parametrization: str
    zero_readout: bool

    @nn.compact
    def __call__(
        self, images: UInt8[Array, "n h w c"], activation: Int[Array, ""]
    ) -> Float[Array, "n classes"]:
        """Returns the logits; `activation` is an index into `activations`."""
        mean, std = self.moments
        x = (images.reshape(len(images), -1).astype(float) - mean) / std
        functions = [ACTIVATIONS[name] for name in self.activations]
        for index in range(self.depth):
            x = layers.Dense(self.width, name=f"hidden{index}")(x)
            many = len(functions) > 1
            x = jax.lax.switch(activation, functions, x) if many else functions[0](x)
        return layers.Readout(
            features=self.classes,
            base_fan_in=self.base_width,
            parametrization=self.parametrization,
            zero=self.zero_readout,
            name="readout",
        )(x)


def mlp(
    *,
    dataset: str,
    width: int,
    base_width: int,
    depth: int,
    batch_size: int,
    activations: tuple[str, ...],
    init_scale: tuple[float, float],
    parametrization: str,
    zero_readout: bool,
) -> TaskFamily:
    """Returns MLPs of one shape whose activation and initial scale vary by draw.

    Both vary within one compiled program; with several activations, each is computed
    under `vmap`. Losses are softmax cross entropies in nats, and aux is `logits`
    [batch, classes]. Batches are drawn on the device, with replacement. The meta-loss
    is the loss over log(classes), clipped as `base.normaliser` says.

    Args:
      dataset: a name that `data.load` knows.
      width: units per hidden layer.
      base_width: the width at which muP and standard parametrization agree.
      depth: hidden layers, >= 1; digits with depth 2 and width 32 are 64-32-32-10.
      batch_size: images per batch.
      activations: names in `ACTIVATIONS`, drawn from uniformly.
      init_scale: bounds of a log-uniform multiplier of all initial weights but the
        readout's; at 1, their standard deviation is fan_in^-1/2.
      parametrization: "mup", or "standard", to show how it fails.
      zero_readout: whether the readout starts at zero.

    Raises:
      ValueError: for a name that is not known, or an empty range.
      data.DatasetNotFound: if the dataset is not on disk.
    """
    low, high = init_scale
    if depth < 1 or batch_size < 1 or not 0 < low <= high:
        raise ValueError(
            f"need depth >= 1, batch_size >= 1 and 0 < low <= high of init_scale, "
            f"got {depth=}, {batch_size=} and {init_scale=}."
        )
    net = network(
        dataset=dataset,
        width=width,
        base_width=base_width,
        depth=depth,
        activations=activations,
        parametrization=parametrization,
        zero_readout=zero_readout,
    )

    def sample(key: jax.Array) -> Draw:
        activation_key, scale_key = jax.random.split(key)
        return {
            "activation": jax.random.randint(activation_key, [], 0, len(activations)),
            "init_scale": log_uniform(scale_key, low, high),
        }

    task = functools.partial(_task, batch_size=batch_size)
    base = net.clone(width=base_width)
    return TaskFamily(
        name=f"mlp-{dataset}-width{width}-depth{depth}-batch{batch_size}",
        data=data.load(dataset),
        sample=sample,
        task=functools.partial(task, net),
        shapes=_shapes(task(net, sample(jax.random.key(0)))),
        base_shapes=_shapes(task(base, sample(jax.random.key(0)))),
    )


def network(
    *,
    dataset: str,
    width: int,
    base_width: int,
    depth: int,
    activations: tuple[str, ...],
    parametrization: str,
    zero_readout: bool,
) -> Network:
    """Returns the network of `mlp` of the same arguments, for `activations`."""
    arrays = data.load(dataset)
    if not activations:
        raise ValueError(f"activations is empty; known: {', '.join(ACTIVATIONS)}.")
    return Network(
        width=width,
        base_width=base_width,
        depth=depth,
        classes=1 + int(np.asarray(arrays["train"]["label"]).max()),
        moments=data.moments(arrays),
        image_shape=arrays["train"]["image"].shape[1:],
        activations=tuple(known("activation", a, ACTIVATIONS) for a in activations),
        parametrization=known(
            "parametrization", parametrization, layers.PARAMETRIZATIONS
        ),
        zero_readout=zero_readout,
    )


def activations(
    net: Network, params: Params, draw: Draw, images: UInt8[Array, "n h w c"]
) -> dict[str, Float[Array, "n units"]]:
    """Returns what each layer puts out, by its name; hidden ones before activation.

    Names are `hidden0`, `hidden1`, ... and `readout`, whose outputs are the logits. A
    coordinate check looks at each of them (arXiv:2203.03466, Appendix D.1).
    """
    _, state = net.apply(
        {"params": params},
        images,
        draw["activation"],
        capture_intermediates=lambda module, _: module is not net,
        mutable="intermediates",
    )
    found = {
        name: calls["__call__"]
        for name, calls in state["intermediates"].items()
        if name != "__call__"
    }
    return {name: output for name, (output,) in found.items()}


def _task(net: Network, draw: Draw, *, batch_size: int) -> Task:
    """Returns the task of a draw."""

    def init(key: jax.Array) -> Params:
        images = jnp.zeros((1, *net.image_shape), jnp.uint8)
        params = net.init(key, images, draw["activation"])["params"]
        scale = {name: draw["init_scale"] for name in params} | {"readout": 1.0}
        return {
            name: leaf | {"kernel": scale[name] * leaf["kernel"]}
            for name, leaf in params.items()
        }

    def loss(params, key, batch):
        del key
        logits = net.apply({"params": params}, batch["image"], draw["activation"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return losses.mean(), {"logits": logits}

    def batch(arrays, key, split):
        arrays = arrays[split]
        size = len(arrays["label"])
        index = jax.random.randint(key, [batch_size], 0, size)
        return {name: array[index] for name, array in arrays.items()}

    return Task(init, loss, batch, normaliser(math.log(net.classes)))


def _shapes(task: Task) -> Params:
    """Returns the shapes of a task's parameters."""
    return jax.eval_shape(task.init, jax.random.key(0))
