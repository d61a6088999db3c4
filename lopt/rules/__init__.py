"""Rules: what is learned of an optimizer, bound to theta as an Optax transformation."""

from collections.abc import Callable
from typing import Any

from lopt import names
from lopt.rules import mlp, weight_decay
from lopt.rules.kernel import kernels as kernels
from lopt.rules.tiles import copies as copies
from lopt.types import LearnedOptimizer

RULES = {"mlp": mlp.mlp, "weight_decay": weight_decay.weight_decay}
PENALISED = ("weight_decay",)  # rules whose theta enters what is minimised


def find(name: str) -> Callable[..., LearnedOptimizer]:
    """Returns the builder of a rule, of `RULES` or `module:attribute`.

    One from outside is a function that is annotated `-> LearnedOptimizer`: an artifact
    cannot make `lopt.load` call anything else.

    Raises:
      ValueError: if it is not known, listing those that are.
    """
    return names.find("rule", name, RULES, "LearnedOptimizer")


def build(name: str, **args: Any) -> LearnedOptimizer:
    """Returns the rule of a name, as `find` knows it.

    >>> build("mpl")
    Traceback (most recent call last):
    ValueError: unknown rule 'mpl'; known: mlp, weight_decay. Did you mean 'mlp'?
    """
    args = {k: tuple(v) if isinstance(v, list) else v for k, v in args.items()}
    return find(name)(**args)
