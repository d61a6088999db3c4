"""Rules: what is learned of an optimizer, bound to theta as an Optax transformation."""

from typing import Any

from lopt.names import known
from lopt.rules import mlp, weight_decay
from lopt.types import LearnedOptimizer

RULES = {"mlp": mlp.mlp, "weight_decay": weight_decay.weight_decay}
PENALISED = ("weight_decay",)  # rules whose theta enters what is minimised


def build(name: str, **args: Any) -> LearnedOptimizer:
    """Returns the rule `name` of `RULES`.

    >>> build("mpl")
    Traceback (most recent call last):
    ValueError: unknown rule 'mpl'; known: mlp, weight_decay. Did you mean 'mlp'?
    """
    known("rule", name, RULES)
    args = {k: tuple(v) if isinstance(v, list) else v for k, v in args.items()}
    return RULES[name](**args)
