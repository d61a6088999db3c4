"""muP MLPs that learn one image by its coordinates, from all of its pixels at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tasks import data
from tasks.base import Batch, Data, Draw, Params, Split, Task, TaskFamily, normaliser
from tasks.families.teacher import Network
from tasks.networks import layers

OUTPUTS = 3  # red, green and blue


def coordinates(
    *,
    dataset: str,
    frequencies: int,
    scale: float,
    width: int,
    base_width: int,
    depth: int,
    activations: tuple[str, ...] = ("relu",),
    zero_readout: bool = True,
    parametrization: str = "mup",
) -> TaskFamily:
    """Returns MLPs from places in an image to colours, whose losses have no noise.

    A draw holds which image, and the frequencies of the Fourier features
    (arXiv:2006.10739) that places come as, normal with standard deviation `scale`, in
    periods per half of the image. Batches are all pixels of a split, always: of a
    chessboard's two colours one is trained on, and rows of the other are held out, two
    of four for tests. Losses are half squared errors, mean over pixels and
    colours, of values standardised by those trained on: 1/2 for a network that knows
    nothing. The meta-loss is the loss over 1/2, clipped as `base.normaliser` says.

    With f frequencies, depth d and width w there are 2 f w + (d - 1) w^2 + 3 w weights
    and d w + 3 biases: 16, 2 and 32: 2,211. A step takes about six operations per
    weight and pixel trained on.

    Args:
      dataset: a name of images in colour that `data.load` knows.
      frequencies: of Fourier features, of which each gives a sine and a cosine.
      scale: of frequencies, above 0.
      width: units per hidden layer.
      base_width: the width at which muP and standard parametrization agree.
      depth: hidden layers.
      activations: names in `layers.ACTIVATIONS`, drawn from uniformly.
      zero_readout: whether the readout starts at zero.
      parametrization: see `layers.base_of`.

    Raises:
      ValueError: for a name that is not known, images without colours, or an
        impossible size.
      data.DatasetNotFound: if the dataset is not on disk.
    """
    layers.check_sizes(frequencies=frequencies, depth=depth)
    layers.check_sizes(width=width, base_width=base_width)
    if scale <= 0:
        raise ValueError(f"scale must be above 0, got {scale=}.")
    images = _images(dataset)
    base_width = layers.base_of(
        parametrization, width=width, base_width=base_width, zero_readout=zero_readout
    )
    network = functools.partial(
        Network,
        base_width=base_width,
        depth=depth,
        outputs=OUTPUTS,
        activations=layers.known_activations(activations),
        zero_readout=zero_readout,
    )
    shapes, base_shapes, wider_shapes = (
        jax.eval_shape(
            functools.partial(_init, network(width=w), frequencies), jax.random.key(0)
        )
        for w in (width, base_width, 2 * width)
    )
    model = network(width=width)
    return TaskFamily(
        name=f"coordinates-{dataset}-frequencies{frequencies}-scale{scale:g}"
        f"-width{width}-depth{depth}",
        data={"images": jnp.asarray(images)},
        sample=functools.partial(
            _sample, len(images), frequencies, scale, len(model.activations)
        ),
        task=functools.partial(_task, model, frequencies, images.shape[1:3]),
        shapes=shapes,
        base_shapes=base_shapes,
        outputs=lambda draw, params, batch: layers.captured(
            model, {"params": params}, batch["input"], draw["activation"]
        ),
        wider_shapes=wider_shapes,
    )


def _images(dataset: str) -> np.ndarray:
    """Returns the images of the training split, which must have colours."""
    images = np.asarray(data.load(dataset)["train"]["input"])
    if images.ndim != 4 or images.shape[-1] != OUTPUTS:
        raise ValueError(
            f"need images [n, height, width, 3], {dataset} has {list(images.shape)}."
        )
    return images


def _init(network: Network, frequencies: int, key: jax.Array) -> Params:
    """Returns initial parameters, which do not depend on the activation."""
    example, activation = jnp.zeros([1, 2 * frequencies]), jnp.zeros([], jnp.int32)
    return network.init(key, example, activation)["params"]


def _sample(
    images: int, frequencies: int, scale: float, activations: int, key: jax.Array
) -> Draw:
    """Returns the arrays that name one image, and how its places are given."""
    image_key, frequency_key, activation_key = jax.random.split(key, 3)
    return {
        "image": jax.random.randint(image_key, [], 0, images),
        "frequencies": scale * jax.random.normal(frequency_key, [2, frequencies]),
        "activation": jax.random.randint(activation_key, [], 0, activations),
    }


def places(height: int, width: int) -> dict[Split, np.ndarray]:
    """Returns [n, 2] rows and columns of the pixels of each split.

    >>> {split: len(x) for split, x in places(4, 6).items()}
    {'train': 12, 'inner_valid': 3, 'outer_valid': 3, 'test': 6}
    """
    rows, columns = np.indices((height, width))
    other = (rows + columns) % 2 == 1
    places = {
        "train": ~other,
        "inner_valid": other & (rows % 4 == 0),
        "outer_valid": other & (rows % 4 == 1),
        "test": other & (rows % 4 >= 2),
    }
    return {split: np.argwhere(mask) for split, mask in places.items()}


def _task(
    network: Network, frequencies: int, size: tuple[int, int], draw: Draw
) -> Task:
    """Returns the task of a draw."""
    at = places(*size)

    def colours(arrays: Data, split: Split) -> jax.Array:
        rows, columns = at[split].T
        return arrays["images"][draw["image"]][rows, columns].astype(float)

    def batch(arrays: Data, key: jax.Array, split: Split) -> Batch:
        del key
        trained = colours(arrays, "train")
        mean, std = trained.mean(), trained.std()
        std = jnp.where(std > 1e-6, std, 1.0)  # of an image of one colour it is 0
        # From -1 to 1 over the image.
        where = 2 * (jnp.asarray(at[split]) + 0.5) / jnp.asarray(size)[None] - 1
        angles = 2 * jnp.pi * where @ draw["frequencies"]
        features = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)
        return {"input": features, "label": (colours(arrays, split) - mean) / std}

    def loss(params, key, batch):
        del key
        y = network.apply({"params": params}, batch["input"], draw["activation"])
        return jnp.square(y - batch["label"]).mean() / 2, {}

    return Task(
        functools.partial(_init, network, frequencies), loss, batch, normaliser(0.5)
    )
