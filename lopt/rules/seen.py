"""What the tensors of one update share, and what the network sees of each."""

from typing import Any, NamedTuple

from lopt.rules import features
from lopt.rules.settings import Settings
from lopt.types import Features, Theta


class Call(NamedTuple):
    """What all tensors of one update share."""

    how: Settings
    theta: Theta
    time: Any  # [t]
    filled: Theta  # of `history`
    matrices: int = 0  # tensors of two axes or more


class Weights(NamedTuple):
    """What all tensors share."""

    net: Theta
    filled: Theta  # as in `Call`
    traced: dict[str, Any]  # settings that are traced


class Seen(NamedTuple):
    """What the network sees of a tensor, or of each of a stack, or of a tile.

    Attributes:
      given: what the inputs are made of.
      scales: of the inputs.
      constant: inputs that do not vary over a tensor.
      still: whether it may not move; None where the head does not ask.
    """

    given: features.Given
    scales: Features
    constant: Any
    still: Any


class Joined(NamedTuple):
    """What the network sees of several tensors, in an array of `Layout`.

    Attributes:
      parts: of which the inputs are made that vary by entry.
      scales: of these inputs.
      start: of the first layer.
      still: whether a tensor may not move; None where the head does not ask.
    """

    parts: features.Parts
    scales: Any
    start: Any
    still: Any
