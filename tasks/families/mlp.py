"""muP MLPs on images and tables."""

import flax.linen as nn
from jaxtyping import Array, Float, Int, Real

from common.names import known
from tasks import data
from tasks.base import TaskFamily
from tasks.families import supervised
from tasks.networks import draws, layers


class Network(nn.Module):
    """A multilayer perceptron: `depth` hidden layers, then the readout.

    Attributes:
      width: units per hidden layer.
      base_width: the width at which muP and standard parametrization agree.
      depth: hidden layers; 0 is linear regression, or softmax regression of classes.
      outputs: logits, or 1 number.
      moments: mean and standard deviation of an input, which standardise it.
      activations: names in `layers.ACTIVATIONS`.
      parametrization: "mup" or "standard".
      zero_readout: whether the readout starts at zero.
    """

    width: int
    base_width: int
    depth: int
    outputs: int
    moments: tuple[float, float]
    activations: tuple[str, ...]
    parametrization: str
    zero_readout: bool

    @nn.compact
    def __call__(
        self, x: Real[Array, "n *shape"], activation: Int[Array, ""]
    ) -> Float[Array, "n outputs"]:
        """Returns the outputs; `activation` is an index into `activations`."""
        x = layers.standardised(x.reshape(len(x), -1), self.moments)
        x = layers.hidden(self, x, activation, "hidden")
        return layers.Readout(
            features=self.outputs,
            base_fan_in=self.base_width if self.depth else x.shape[-1],
            parametrization=self.parametrization,
            zero=self.zero_readout,
            name="readout",
        )(x)


def mlp(
    *,
    dataset: str,
    resolution: int | None = None,
    width: int,
    base_width: int,
    depth: int,
    batch_size: int,
    activations: tuple[str, ...] = ("relu",),
    vary: draws.Vary = draws.NOTHING,
    parametrization: str = "mup",
    zero_readout: bool = True,
) -> TaskFamily:
    """Returns MLPs of one shape whose activation, and what `vary` says, vary by draw.

    All vary within one compiled program; with several activations, each is computed
    under `vmap`. Losses are softmax cross entropies in nats, or half squared errors of
    standardised numbers. The meta-loss is the loss over that of a network that knows
    nothing, clipped as `base.normaliser` says.

    There are i w + (d - 1) w^2 + d w + (w + 1) o parameters of width w, depth d, i
    inputs and o outputs (3,466 for digits, width 32, depth 2), and (i + 1) o at depth
    0; a step costs about six operations per parameter and example.

    Args:
      dataset: a name that `data.load` knows.
      resolution: height and width that images are averaged to; None: as stored.
      width: units per hidden layer.
      base_width: the width at which muP and standard parametrization agree.
      depth: hidden layers; digits with depth 2 and width 32 are 64-32-32-10.
      batch_size: examples per batch.
      activations: names in `layers.ACTIVATIONS`, drawn from uniformly.
      vary: see `supervised.family`.
      parametrization: see `layers.base_of`; of "standard" the readout too may be zero.
      zero_readout: whether the readout starts at zero.

    Raises:
      ValueError: for a name that is not known, an impossible size, or an empty range.
      data.DatasetNotFound: if the dataset is not on disk.
    """
    if depth < 0:
        raise ValueError(f"depth must be at least 0, got {depth}.")
    known("parametrization", parametrization, layers.PARAMETRIZATIONS)
    base_width = base_width if parametrization == "mup" else width
    return supervised.fitted(
        Network,
        data.load(dataset, resolution=resolution),
        name=f"mlp-{supervised.titled(dataset, resolution)}-width{width}-depth{depth}"
        f"-batch{batch_size}",
        width=width,
        base_width=base_width,
        batch_size=batch_size,
        activations=activations,
        vary=vary,
        depth=depth,
        parametrization=parametrization,
        zero_readout=zero_readout,
    )


def softmax_regression(
    *,
    dataset: str,
    resolution: int | None = None,
    batch_size: int,
    vary: draws.Vary = draws.NOTHING,
) -> TaskFamily:
    """Returns softmax regression, or linear regression where labels are numbers.

    Losses are convex. There are (i + 1) o parameters of i inputs and o outputs, 650 on
    digits; a step costs about four operations per parameter and example, as inputs need
    no gradients. Arguments are those of `mlp`, which it is, without hidden layers or
    width.
    """
    title = supervised.titled(dataset, resolution)
    return mlp(
        dataset=dataset,
        resolution=resolution,
        width=1,
        base_width=1,
        depth=0,
        batch_size=batch_size,
        activations=("relu",),
        vary=vary,
        parametrization="mup",
        zero_readout=True,
    )._replace(name=f"softmax-regression-{title}-batch{batch_size}")
