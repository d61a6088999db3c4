"""Tasks of suites: what an entry is, and the settings that many share."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """A task of a suite.

    Attributes:
      family: name in `FAMILIES`.
      args: of the family.
      num_steps: updates of a run.
      augmentations: as `augmentations.wrap` takes them.
      floor: a loss that is hardly ever below; the meta-loss is what is above it.
      accelerator: whether the task is for an accelerator, because a step takes seconds
        on a CPU.
    """

    family: str
    args: Mapping[str, Any]
    num_steps: int
    augmentations: tuple[Mapping[str, Any], ...] = ()
    floor: float = 0.0
    accelerator: bool = False


DIGITS_MLP = {
    "dataset": "digits",
    "resolution": None,
    "width": 32,
    "base_width": 32,
    "depth": 2,
    "batch_size": 64,
    "activations": ("relu",),
    "vary": {},
    "parametrization": "mup",
    "zero_readout": True,
}
CONV = {
    "dataset": "digits",
    "resolution": None,
    "width": 16,
    "base_width": 16,
    "depth": 2,
    "stages": 2,
    "batch_size": 32,
    "activations": ("gelu",),  # narrow ReLU networks die: tuned Adam loses seeds
    "vary": {},
    "zero_readout": True,
}
RESNET = CONV | {"norm": "batch", "dataset": "patches8", "activations": ("relu",)}
TRANSFORMER = {
    "dataset": "stdlib",
    "context": 16,
    "width": 16,
    "base_width": 16,
    "depth": 1,
    "heads": 2,
    "mlp_ratio": 2,
    "batch_size": 8,
    "activations": ("gelu",),
    "vary": {},
    "zero_readout": True,
}
RECURRENT = {
    "dataset": "stdlib",
    "context": 16,
    "cell": "gru",
    "width": 16,
    "base_width": 16,
    "depth": 1,
    "batch_size": 16,
    "vary": {},
    "zero_readout": True,
}
AUTOENCODER = {
    "dataset": "digits",
    "resolution": None,
    "width": 32,
    "base_width": 32,
    "depth": 1,
    "latent": 8,
    "loss": "bernoulli",
    "batch_size": 32,
    "activations": ("relu",),
    "vary": {},
    "zero_readout": True,
}
VAE = {name: x for name, x in AUTOENCODER.items() if name != "loss"}
VIT = {
    "dataset": "digits",
    "resolution": None,
    "patch": 2,
    "width": 16,
    "base_width": 16,
    "depth": 1,
    "heads": 2,
    "mlp_ratio": 2,
    "batch_size": 32,
    "activations": ("gelu",),
    "vary": {},
    "zero_readout": True,
}
MIXER = {name: x for name, x in VIT.items() if name != "heads"} | {"token_hidden": 16}
COORDINATES = {
    "dataset": "patches16",
    "frequencies": 16,
    "scale": 0.3,
    "width": 32,
    "base_width": 32,
    "depth": 2,
    "activations": ("relu",),
    "zero_readout": True,
}
QUADRATIC = {
    "dimension": 20,
    "condition": (1.0, 1000.0),
    "noise": (0.0, 0.1),
    "spectrum": "geometric",
    "rotation": True,
}
SURFACE = {"function": "rosenbrock", "dimension": 2, "rotation": True, "shift": 0.1}
TEACHER = {
    "inputs": 16,
    "outputs": 1,
    "teacher_width": 8,
    "teacher_depth": 1,
    "width": 32,
    "base_width": 32,
    "depth": 1,
    "batch_size": 64,
    "activations": ("relu",),
    "noise": (0.0, 0.1),
    "zero_readout": True,
}
BAG = {
    "vocabulary": 1024,
    "exponent": 1.0,
    "length": 8,
    "classes": 16,
    "topical": (0.3, 0.6),
    "width": 32,
    "base_width": 32,
    "depth": 1,
    "batch_size": 256,
    "activations": ("relu",),
    "zero_readout": True,
}
BIGRAM = {
    "vocabulary": 512,
    "exponent": 1.0,
    "noise": (0.0, 0.1),
    "width": 16,
    "base_width": 16,
    "batch_size": 64,
    "zero_readout": True,
}
REGRESSION = {
    "dataset": "breast_cancer",
    "resolution": None,
    "batch_size": 32,
    "vary": {},
}
STANDARD = {"parametrization": "standard", "zero_readout": False}
MANY = ("relu", "tanh", "gelu")
SCALES = {"name": "reparametrised", "args": {"scale": (0.5, 2.0), "per": "tensor"}}
UNSEEN = {"dataset": "patches8"}  # by rules that are meta-trained on train-v1
