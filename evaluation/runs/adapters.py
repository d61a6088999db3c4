"""Optax transformations of any make on plain parameters: what they ask for and hold."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lopt.baselines import contrib
from lopt.types import Params

Transformation = optax.GradientTransformationExtraArgs
EvalParams = Callable[[Any, Params], Params]


class Adapted(NamedTuple):
    """How an optimizer is run and judged.

    Attributes:
      fit: from the transformation to one of plain parameters.
      eval_params: (state, params) -> the parameters to judge; None: those updated.
      copies: whether its state keeps parameters beside those, or an average of some,
        of which we cannot tell whether they are meant to be used.
    """

    fit: Callable[[Any], Transformation]
    eval_params: EvalParams | None
    copies: bool = False


def adapted(tx: Any, shapes: Params) -> Adapted:
    """Returns how to run what was made, by the state that it has; compiles nothing.

    Known are Schedule-Free (arXiv:2405.15682) of all parameters, wherever it is in the
    state, and Lookahead (arXiv:1907.08610), whose slow parameters are kept beside the
    fast ones. An average that starts at zeros looks like a momentum, and goes unseen.
    """
    state = jax.eval_shape(tx.init, shapes)
    if _find(state, optax.LookaheadState):
        return Adapted(paired, lambda state, params: state[1])
    free = _find(state, optax.contrib.ScheduleFreeState)
    if free and jax.tree.structure(free[0].z) == jax.tree.structure(shapes):
        return Adapted(lenient, averaged)
    return Adapted(lenient, None, copies=bool(free) or _copies(tx, shapes))


def lenient(tx: Any) -> Transformation:
    """Returns `tx`, given only what its update takes of what it is offered."""
    tx = optax.with_extra_args_support(tx)

    def update(grads, state, params=None, **extra):
        while True:  # what takes any keyword may pass it on to what does not
            try:
                return tx.update(grads, state, params, **extra)
            except TypeError as error:
                refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
                if not refused or refused[1] not in extra:
                    raise
                del extra[refused[1]]

    return Transformation(tx.init, update)


def paired(tx: Any) -> Transformation:
    """Returns Lookahead on its fast parameters; (its state, slow ones) is the state."""
    tx = lenient(tx)

    def init(params):
        # Copies, that both may be donated.
        both = optax.LookaheadParams.init_synced(jax.tree.map(jnp.copy, params))
        return tx.init(both), both.slow

    def update(grads, state, params, **extra):
        inner, slow = state
        both = optax.LookaheadParams(fast=params, slow=slow)
        updates, inner = tx.update(grads, inner, both, **extra)
        return updates.fast, (inner, optax.apply_updates(slow, updates.slow))

    return Transformation(init, update)


def averaged(state: Any, params: Params) -> Params:
    """Returns the average of Schedule-Free, wherever it is in the state."""
    return contrib.schedule_free_params(
        _find(state, optax.contrib.ScheduleFreeState)[0], params
    )


def _find(state: Any, kind: type) -> list[Any]:
    """Returns the parts of a state that are of a type."""
    leaves = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, kind))
    return [x for x in leaves if isinstance(x, kind)]


def _copies(tx: Any, shapes: Params) -> bool:
    """Returns whether the state begins with all parameters, as averages of them do."""
    program = jax.make_jaxpr(tx.init)(shapes).jaxpr
    sources = {}
    for equation in program.eqns:
        if equation.primitive.name in ("copy", "copy_p", "convert_element_type"):
            sources[equation.outvars[0]] = equation.invars[0]

    def source(x: Any) -> Any:
        return source(sources[x]) if not hasattr(x, "val") and x in sources else x

    held = {source(x) for x in program.outvars if not hasattr(x, "val")}
    return bool(program.invars) and held.issuperset(program.invars)
