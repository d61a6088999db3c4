"""Families that fit a network to a dataset."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tasks import data
from tasks.base import Batch, Draw, Params, State, Task, TaskFamily, normaliser
from tasks.networks import draws, layers, objectives


def images(dataset: str, resolution: int | None) -> data.Dataset:
    """Returns a dataset of images, averaged to a resolution or as stored.

    Raises:
      ValueError: if it is of something else.
    """
    arrays = data.load(dataset, resolution=resolution)
    if arrays["train"]["input"].ndim != 4:
        raise ValueError(f"need images, got {dataset=}.")
    return arrays


def titled(dataset: str, resolution: int | None) -> str:
    """Returns how a family's name calls a dataset: "digits", or "digits@4"."""
    return dataset if resolution is None else f"{dataset}@{resolution}"


def fitted(
    network: Callable[..., nn.Module],
    dataset: data.Dataset,
    *,
    name: str,
    width: int,
    base_width: int,
    batch_size: int,
    activations: tuple[str, ...],
    vary: draws.Vary,
    wanted: tuple[objectives.Objective, int] | None = None,
    **sizes: Any,
) -> TaskFamily:
    """Returns the family that fits a kind of network to a dataset.

    Args:
      network: a module's class, of the attributes `width`, `base_width`, `outputs`,
        `moments`, `activations` and those of `sizes`.
      activations: names in `layers.ACTIVATIONS`, drawn from uniformly.
      wanted: an objective, and how many outputs it takes; by default
        `objectives.for_dataset`.
      **sizes: what else the network takes.
      others: see `family`.

    Raises:
      ValueError: for a name that is not known, or an impossible range.
    """
    wanted, outputs = wanted or objectives.for_dataset(dataset)
    build = functools.partial(
        network,
        base_width=base_width,
        outputs=outputs,
        moments=data.moments(dataset),
        activations=layers.known_activations(activations),
        **sizes,
    )
    return family(
        name=name,
        network=build,
        width=width,
        base_width=base_width,
        dataset=dataset,
        objective=wanted,
        batch_size=batch_size,
        activations=len(activations),
        vary=vary,
    )


def family(
    *,
    name: str,
    network: Callable[[int], nn.Module],
    width: int,
    base_width: int,
    dataset: data.Dataset,
    objective: objectives.Objective,
    batch_size: int,
    activations: int,
    vary: draws.Vary,
) -> TaskFamily:
    """Returns the family that fits networks to a dataset.

    Batches are {"input", "label"}, drawn on the device with replacement. Where classes
    or batch_size vary, examples whose label is -1 do not count, nor do those of classes
    that are not the draw's; else all do.

    Args:
      name: of the family.
      network: width -> module. `module(input, activation)` takes inputs [n, ...] as
        stored and an index of an activation, and returns what the objective takes. One
        that has other collections than "params" also takes `train`, False by default.
      width: of the network.
      base_width: the width at which muP and standard parametrization agree.
      dataset: from `data.load`.
      objective: of the outputs.
      batch_size: examples per batch.
      activations: how many the network has, drawn from uniformly.
      vary: bounds of what varies, by name: `init_scale`, a log-uniform multiplier of
        initial kernels but the readout's; `label_noise`, the share of training labels
        that are false; `classes`, how many there are; `examples`, the log-uniform share
        of each class that is trained on; `batch_size`, log-uniform, how many examples
        of a training batch count.

    Raises:
      ValueError: for a size below 1, or an unknown name or impossible range of `vary`.
    """
    layers.check_sizes(width=width, base_width=base_width, batch_size=batch_size)
    sampler = functools.partial(
        draws.sampler, classes=objective.classes, batch_size=batch_size, vary=vary
    )
    arrays, how = sampler(dict(dataset))
    sample = functools.partial(
        draws.sample, activations=activations, classes=objective.classes, vary=vary
    )
    train = dataset["train"]
    example = train["input"][:1] if "label" in train else train["input"][:1, :-1]
    net = _Net(network(width), example)
    init = _task(net, objective, how, sample(jax.random.key(0))).init
    base_shapes, wider_shapes = (
        _shapes(network(w), example)["params"] for w in (base_width, 2 * width)
    )
    return TaskFamily(
        name=name,
        data=arrays,
        sample=sample,
        task=functools.partial(_task, net, objective, how),
        shapes=jax.eval_shape(init, jax.random.key(0)),
        base_shapes=base_shapes,
        outputs=net.outputs,
        stream=_stream(dataset, lambda window: sampler(window)[0], batch_size),
        wider_shapes=wider_shapes,
    )


def _stream(
    dataset: data.Dataset, arrays: Callable[[Any], Any], batch_size: int
) -> Callable[[int], Any] | None:
    """Returns step -> data, where windows of the dataset stream.

    A window is left once as many examples were drawn as it has.
    """
    if not isinstance(dataset, data.Stream):
        return None
    per_window = len(dataset["train"]["input"])

    @functools.lru_cache(1)
    def numbered(number: int) -> Any:
        return arrays({**dataset, "train": dataset.window(number)})

    return lambda step: numbered(step * batch_size // per_window)


def _shapes(module: nn.Module, example: jax.Array) -> Any:
    """Returns the shapes of a module's collections, by name."""
    zero = jnp.zeros([], jnp.int32)
    return jax.eval_shape(module.init, jax.random.key(0), example, zero)


class _Net:
    """A module, and an input to initialise it with."""

    def __init__(self, module: nn.Module, example: jax.Array) -> None:
        """Finds what state the module carries, which no key decides."""
        self.module, self.example = module, example
        self.state = ()
        if _shapes(module, example).keys() > {"params"}:
            zero = jnp.zeros([], jnp.int32)
            with jax.ensure_compile_time_eval():
                self.state = jax.jit(module.init)(jax.random.key(0), example, zero)
            del self.state["params"]

    def init(self, key: jax.Array, activation: jax.Array) -> Params:
        """Returns initial parameters."""
        return self.module.init(key, self.example, activation)["params"]

    def apply(self, params, draw, key, x, state, *, train) -> tuple[Any, State]:
        """Returns outputs and the next state."""
        args = {"params": params, **(state or {})}, x, draw["activation"]
        rngs = None if key is None else {"sample": key}
        if not state:
            return self.module.apply(*args, rngs=rngs), state
        if not train:
            return self.module.apply(*args, rngs=rngs, train=False), state
        return self.module.apply(*args, rngs=rngs, train=True, mutable=list(state))

    def outputs(self, draw: Draw, params: Params, batch: Batch) -> dict[str, jax.Array]:
        """Returns what each layer puts out in training, by its path."""
        return layers.captured(
            self.module,
            {"params": params, **(self.state or {})},
            batch["input"],
            draw["activation"],
            rngs={"sample": jax.random.key(0)},
            **({"train": True} if self.state else {}),
        )


def _task(
    net: _Net, objective: objectives.Objective, how: draws.Sampler, draw: Draw
) -> Task:
    """Returns the task of a draw."""

    def init(key: jax.Array) -> Params:
        params = net.init(key, draw["activation"])
        if "init_scale" not in draw:
            return params
        return jax.tree_util.tree_map_with_path(
            lambda path, x: x * draw["init_scale"] if _is_scaled(path) else x, params
        )

    def loss(params, key, batch, state=net.state, *, train=True):
        outputs, state = net.apply(
            params, draw, key, batch["input"], state, train=train
        )
        outputs = draws.possible(draw, outputs)
        losses, aux = objective.losses(outputs, batch), objective.aux(outputs, batch)
        weights = draws.weights(draw, batch, objective.classes, losses)
        if weights is not None:
            aux["count"] = weights.sum()
        if "hits" in aux:
            aux["correct"] = draws.mean(aux.pop("hits"), weights)
        return draws.mean(losses, weights), {**aux, "state": state}

    return Task(
        init=init,
        loss=loss,
        batch=functools.partial(draws.batch, how, draw),
        normalise=normaliser(objective.initial(draw)),
        state=net.state,
        index=draws.index(how),
        evaluate=functools.partial(loss, train=False),
    )


def _is_scaled(path: Any) -> bool:
    """Returns whether a leaf is a kernel, and not the readout's."""
    *layers, leaf = (key.key for key in path)
    return leaf == "kernel" and "readout" not in layers
