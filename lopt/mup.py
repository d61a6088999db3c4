"""muP: width ratios inferred from shapes, scaling of updates, coordinate checks.

Under muP (arXiv:2203.03466, Table 8; arXiv:2406.00153 for learned rules) what a rule
makes of a leaf is multiplied by a number that depends on how the leaf grows with
width. How it grows is read from shapes at two widths, never from names.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from lopt.names import known
from lopt.types import Float, Params


class Info(NamedTuple):
    """How each leaf grows with width; trees of Python numbers like params.

    Attributes:
      r_in: fan-in over fan-in at the base width.
      r_out: fan-out over fan-out at the base width.
      a: forward multiplier over that at the base width.
      hidden: whether both fans grow.
    """

    r_in: Params
    r_out: Params
    a: Params
    hidden: Params


# like -> (r_in, r_out, a) -> what multiplies the update of a leaf
LIKES: dict[str, Callable[..., Any]] = {
    "adam": lambda r_in, r_out, a: 1 / (r_in * a),
    "sgd": lambda r_in, r_out, a: r_out / (r_in * a**2),
}


def infer(
    shapes: Params, base_shapes: Params, multipliers: Any = None, wider: Any = None
) -> Info:
    """Returns how each leaf grows, from shapes at this and at the base width.

    A leaf without a growing axis is fixed. With one it is vector-like: input weights,
    embeddings, biases, gains, and readouts whose logits are multiplied by
    1/r. With two it is hidden, and the first growing axis is its fan-in, as in Flax's
    layouts. Widths below the base give ratios below 1.

    Shapes do not show forward multipliers: a leaf from width to a fixed size without
    the 1/r looks like an embedding. So a leaf with one growing axis that is named in
    `multipliers` is an output, and the axis its fan-in.

    Args:
      shapes: tree of arrays or `jax.ShapeDtypeStruct`, as `jax.eval_shape` returns.
      base_shapes: the same tree at the base width.
      multipliers: forward multiplier over that at the base width, > 0, of any leaves:
        a tree like part of `shapes`, or a dict of paths such as "readout/kernel".
      wider: the same tree at a greater width, which shows what is hidden in a network
        of the base width too, where nothing has grown; None: what has grown since.

    Raises:
      ValueError: naming the leaf, if the trees or ranks differ, more than two axes
        grow, or a multiplier is for no leaf or not positive.

    >>> shapes = {"in": np.zeros([3, 64]), "hidden": np.zeros([64, 64])}
    >>> base_shapes = {"in": np.zeros([3, 32]), "hidden": np.zeros([32, 32])}
    >>> infer(shapes, base_shapes).r_in
    {'hidden': 2.0, 'in': 1.0}
    >>> infer(base_shapes, base_shapes, wider=shapes).hidden
    {'hidden': True, 'in': False}
    """
    now, base, declared = map(_named, (shapes, base_shapes, multipliers))
    grown = growing = _growth(now, base, ("this", "the base"))
    if wider is not None:
        growing = _growth(_named(wider), now, ("the greater", "this"))
    for name in declared:
        _check_multiplier(name, declared[name], now)
    leaves = [
        (*_ratios(grown[name], declared.get(name)), len(growing[name]) == 2)
        for name in now
    ]
    tree = jax.tree.structure(shapes)
    columns = ([leaf[i] for leaf in leaves] for i in range(4))
    return Info(*(jax.tree.unflatten(tree, column) for column in columns))


def scale_updates(
    info: Info, like: str = "adam"
) -> optax.GradientTransformationExtraArgs:
    """Returns the transformation that multiplies each leaf's update as muP asks.

    It comes right after the rule, before learning rate and weight decay; its state
    is empty. Leaves are matched by path, so that any container of the same
    paths will do; masked leaves pass.

    Args:
      info: from `infer`.
      like: "adam" for rules whose updates ignore the scale of gradients, learned rules
        among them: 1/(r_in a); "sgd" for proportional ones: r_out/(r_in a^2).

    Raises:
      ValueError: for another `like`; on update, for a leaf not in `info`.
    """
    known("like", like, LIKES)
    factors = _named(jax.tree.map(LIKES[like], info.r_in, info.r_out, info.a))

    def scale(path, update):
        if _is_masked(update):
            return update
        return (update * _of(path, factors)).astype(update.dtype)

    def update(updates, state, params=None, **extra):
        del params, extra
        updates = jax.tree_util.tree_map_with_path(scale, updates, is_leaf=_is_masked)
        return updates, state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def are_hidden(info: Info, tree: Params) -> Params:
    """Returns whether each leaf of a tree is hidden; leaves are matched by path.

    Raises:
      ValueError: for a leaf not in `info`.
    """
    hidden = _named(info.hidden)
    return jax.tree_util.tree_map_with_path(lambda path, _: _of(path, hidden), tree)


def width_ratios(info: Info) -> tuple[float, float]:
    """Returns the least and the greatest ratio of a growing axis to its base.

    >>> width_ratios(infer(np.zeros([3, 64, 16]), np.zeros([3, 16, 8])))
    (2.0, 4.0)
    """
    ratios = [r for r in jax.tree.leaves((info.r_in, info.r_out)) if r != 1]
    return min(ratios, default=1.0), max(ratios, default=1.0)


def slopes(widths: Any, rms: Any) -> Float[np.ndarray, "*n"]:
    """Returns the slopes of log RMS against log width, by least squares: [*n].

    Under muP the change of activations over a few steps has slope 0 in every layer
    (a coordinate check, arXiv:2203.03466, appendix D.1).

    Args:
      widths: [w], at least two.
      rms: [w, *n], positive.

    Raises:
      ValueError: if an RMS is not positive and finite, as of a layer that stood still.

    >>> slopes([1, 2, 4], [[1, 3], [2, 3], [4, 3]]).round(6).tolist()
    [1.0, 0.0]
    """
    rms = np.asarray(rms, np.float64)
    if not np.all((rms > 0) & np.isfinite(rms)):
        raise ValueError("slopes need every RMS positive and finite.")
    x = np.log(np.asarray(widths, np.float64))
    x = x - x.mean()
    return np.tensordot(x, np.log(rms), 1) / (x @ x)


def _growth(
    now: dict[str, Any], base: dict[str, Any], widths: tuple[str, str]
) -> dict[str, list[tuple[int, int]]]:
    """Returns the sizes of each leaf's growing axes at two widths, by path."""
    for name in sorted(now.keys() ^ base.keys()):
        where = widths[name in base]
        raise ValueError(f"leaf {name!r} exists only at {where} width.")
    return {
        name: _growing(name, np.shape(leaf), np.shape(base[name]), widths[1])
        for name, leaf in now.items()
    }


def _growing(name: str, shape: tuple, base: tuple, width: str) -> list[tuple[int, int]]:
    """Returns the sizes of one leaf's growing axes; `width` names that of `base`."""
    if len(shape) != len(base):
        raise ValueError(f"leaf {name!r} has shape {shape}, at {width} width {base}.")
    pairs = [(n, b) for n, b in zip(shape, base, strict=True) if n != b]
    if len(pairs) > 2 or any(0 in pair for pair in pairs):
        raise ValueError(
            f"leaf {name!r} grows from {base} to {shape}; at most two axes may grow, "
            f"neither from or to nothing. Grow heads or head size, not both."
        )
    return pairs


def _ratios(
    pairs: list[tuple[int, int]], multiplier: float | None
) -> tuple[float, float, float]:
    """Returns r_in, r_out and a of one leaf, from its growing axes."""
    match [float(n / b) for n, b in pairs], multiplier:
        case [r], None:
            return 1.0, r, 1.0
        case ratios, _:
            r_in, r_out, *_ = *ratios, 1.0, 1.0
    return r_in, r_out, 1.0 if multiplier is None else float(multiplier)


def _check_multiplier(name: str, a: Any, names: dict[str, Any]) -> None:
    if name not in names:
        raise ValueError(
            f"multiplier for {name!r}, which is no leaf; leaves: {', '.join(names)}."
        )
    if not a > 0:
        raise ValueError(f"the multiplier of {name!r} must be positive, got {a}.")


def _of(path: Any, known: dict[str, Any]) -> Any:
    """Returns what is known of the leaf at a path."""
    if _name(path) not in known:
        raise ValueError(
            f"leaf {_name(path)!r} is not among those that info was inferred from: "
            f"{', '.join(known)}."
        )
    return known[_name(path)]


def _is_masked(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)


def _named(tree: Any) -> dict[str, Any]:
    """Returns {path: leaf}, in the tree's order."""
    return {_name(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def _name(path: Any) -> str:
    """Returns "a/b" for a path; Flax NNX wraps leaves while it initialises only."""
    if path and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator="/")
