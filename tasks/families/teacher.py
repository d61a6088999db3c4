"""muP MLPs that learn what a random MLP makes of Gaussian inputs."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tasks.base import (
    SPLITS,
    Batch,
    Data,
    Draw,
    Params,
    Split,
    Task,
    TaskFamily,
    normaliser,
)
from tasks.networks import layers

# Inputs that the mean and variance of a teacher's outputs are measured on: few, since
# meta-training draws a task at every step, lest it end there.
MEASURED = 256


class Network(nn.Module):
    """A multilayer perceptron: `depth` hidden layers, then the readout.

    Attributes:
      width: units per hidden layer.
      base_width: the width at which muP and standard parametrization agree.
      depth: hidden layers, at least 1.
      outputs: numbers put out.
      activations: names in `layers.ACTIVATIONS`.
      zero_readout: whether the readout starts at zero.
    """

    width: int
    base_width: int
    depth: int
    outputs: int
    activations: tuple[str, ...]
    zero_readout: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "n inputs"], activation: Int[Array, ""]
    ) -> Float[Array, "n outputs"]:
        """Returns the outputs; `activation` is an index into `activations`."""
        x = layers.hidden(self, x, activation, "hidden")
        return layers.Readout(
            features=self.outputs,
            base_fan_in=self.base_width,
            parametrization="mup",
            zero=self.zero_readout,
            name="readout",
        )(x)


def teacher_student(
    *,
    inputs: int,
    outputs: int,
    teacher_width: int,
    teacher_depth: int,
    width: int,
    base_width: int,
    depth: int,
    batch_size: int,
    activations: tuple[str, ...] = ("relu",),
    noise: tuple[float, float],
    zero_readout: bool = True,
    parametrization: str = "mup",
) -> TaskFamily:
    """Returns MLPs, students, each fit to the outputs of another, its teacher.

    A draw holds the teacher's random weights, the activation of both, and the noise
    of training labels. Inputs are new in every batch, independent N(0, 1), so that
    there is nothing to overfit but the noise; other splits differ only in their keys.
    Labels are the teacher's outputs, standardised as measured on `MEASURED` inputs.
    Losses are half squared errors, mean over outputs: 1/2 for a student that knows
    nothing, noise^2/2 at best. The meta-loss is the loss over 1/2, clipped as
    `base.normaliser` says.

    With i inputs, o outputs, depth d and width w there are
    i w + (d - 1) w^2 + w o weights and d w + o biases: i 8, o 1, d 2, w 32: 1,377. A
    step costs about six operations per weight and example, and two per weight of the
    teacher; a draw costs the teacher two more on each of `MEASURED` inputs.

    arXiv:1906.08632 studies students wider than their teachers in this setting.

    Args:
      inputs: numbers per example.
      outputs: numbers per label.
      teacher_width: units per hidden layer of the teacher.
      teacher_depth: hidden layers of the teacher.
      width: units per hidden layer of the student.
      base_width: the width at which muP and standard parametrization agree.
      depth: hidden layers of the student.
      batch_size: examples per batch.
      activations: names in `layers.ACTIVATIONS`, drawn from uniformly.
      noise: bounds of the standard deviation of training labels' noise, over that of
        the teacher's outputs; uniform.
      zero_readout: whether the student's readout starts at zero.
      parametrization: of the student; see `layers.base_of`.

    Raises:
      ValueError: for an unknown activation, a size below 1, or an empty range.
    """
    layers.check_sizes(inputs=inputs, outputs=outputs, batch_size=batch_size)
    layers.check_sizes(teacher_width=teacher_width, teacher_depth=teacher_depth)
    layers.check_sizes(width=width, base_width=base_width, depth=depth)
    base_width = layers.base_of(
        parametrization, width=width, base_width=base_width, zero_readout=zero_readout
    )
    if not 0 <= noise[0] <= noise[1]:
        raise ValueError(f"need 0 <= low <= high of noise, got {noise=}.")
    network = functools.partial(
        Network, outputs=outputs, activations=layers.known_activations(activations)
    )
    widths = {"width": teacher_width, "base_width": teacher_width}
    teacher = network(**widths, depth=teacher_depth, zero_readout=False)
    student, base, wider = (
        network(width=w, base_width=base_width, depth=depth, zero_readout=zero_readout)
        for w in (width, base_width, 2 * width)
    )
    shapes, base_shapes, wider_shapes = (
        jax.eval_shape(functools.partial(_init, net, inputs), jax.random.key(0))
        for net in (student, base, wider)
    )
    return TaskFamily(
        name=f"teacher{teacher_width}x{teacher_depth}-student{width}x{depth}"
        f"-inputs{inputs}-batch{batch_size}",
        data=(),
        sample=functools.partial(_sample, teacher, inputs, noise),
        task=functools.partial(_task, teacher, student, (batch_size, inputs)),
        shapes=shapes,
        base_shapes=base_shapes,
        outputs=lambda draw, params, batch: layers.captured(
            student, {"params": params}, batch["input"], draw["activation"]
        ),
        wider_shapes=wider_shapes,
    )


def _init(network: Network, inputs: int, key: jax.Array) -> Params:
    """Returns initial parameters, which do not depend on the activation."""
    example, activation = jnp.zeros([1, inputs]), jnp.zeros([], jnp.int32)
    return network.init(key, example, activation)["params"]


def _sample(
    teacher: Network, inputs: int, noise: tuple[float, float], key: jax.Array
) -> Draw:
    """Returns the arrays that name one teacher."""
    teacher_key, input_key, activation_key, noise_key = jax.random.split(key, 4)
    params = _init(teacher, inputs, teacher_key)
    number = len(teacher.activations)
    activation = jax.random.randint(activation_key, [], 0, number)
    x = jax.random.normal(input_key, [MEASURED, inputs])
    y = teacher.apply({"params": params}, x, activation)
    std = y.std(0)
    return {
        "teacher": params,
        "activation": activation,
        "mean": y.mean(0),
        "std": jnp.where(std > 1e-6, std, 1.0),  # of a dead ReLU network it is 0
        "noise": jax.random.uniform(noise_key, [], float, *noise),
    }


def _task(
    teacher: Network, student: Network, shape: tuple[int, int], draw: Draw
) -> Task:
    """Returns the task of a draw; `shape` is that of a batch's inputs."""

    def loss(params, key, batch):
        del key
        y = student.apply({"params": params}, batch["input"], draw["activation"])
        return jnp.square(y - batch["label"]).mean() / 2, {}

    def batch(data: Data, key: jax.Array, split: Split) -> Batch:
        del data
        key = jax.random.fold_in(key, SPLITS.index(split))
        input_key, noise_key = jax.random.split(key)
        x = jax.random.normal(input_key, shape)
        y = teacher.apply({"params": draw["teacher"]}, x, draw["activation"])
        y = (y - draw["mean"][None]) / draw["std"][None]
        if split == "train":
            y += draw["noise"] * jax.random.normal(noise_key, y.shape)
        return {"input": x, "label": y}

    init = functools.partial(_init, student, shape[1])
    return Task(init, loss, batch, normaliser(0.5))
