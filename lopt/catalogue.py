"""Released rules by name, as Optax optimizers; no network needed."""

import functools
import importlib.resources
import os
import warnings
from pathlib import Path
from typing import Any, overload

import optax

from lopt import artifact, checks, names, schedules
from lopt import guard as guards
from lopt import mup as widths


class Verdicts(dict):
    """{name: verdict} of released rules, shown a line each."""

    def __repr__(self) -> str:
        """Returns the lines."""
        width = max(map(len, self), default=0)
        return "\n".join(f"{name:{width}}  {text}" for name, text in self.items())


@overload
def load(name_or_path: None = None) -> Verdicts: ...


@overload
def load(
    name_or_path: str | os.PathLike,
    *,
    num_steps: Any = None,
    mup: widths.Info | None = None,
    learning_rate: Any = None,
    guard: Any = None,
) -> optax.GradientTransformationExtraArgs: ...


def load(
    name_or_path: str | os.PathLike | None = None,
    *,
    num_steps: Any = None,
    mup: widths.Info | None = None,
    learning_rate: Any = None,
    guard: Any = None,
) -> optax.GradientTransformationExtraArgs | Verdicts:
    """Returns a learned optimizer, released or of your own, as an Optax optimizer.

    Add its updates to the parameters: they already descend, so do not multiply them by
    a negative learning rate. Without arguments, `load` returns the released rules with
    a verdict on each.

    Args:
      name_or_path: the name of a released rule (see `released`), or the directory of an
        artifact; `~` is the home directory.
      num_steps: the number of updates that you will do, at least 1. The released rules
        need it, because their inputs and their schedules depend on the share of the run
        that is done. After `num_steps` updates a rule stands still, or may diverge.
      mup: how much wider each layer is than at the base width, from
        `lopt.mup.infer(shapes, base_shapes)`; updates are then scaled as muP asks.
      learning_rate: multiplies the updates. A number is the peak of the schedule that
        the rule was trained under, if there is one and `num_steps` is given, else a
        constant. An Optax schedule replaces the rule's own. By default the rule's own
        schedule is used with its own peak.
      guard: learning rate of Adam, a number or a schedule. Where the loss spikes, or an
        update is huge or not finite, Adam's step is taken instead. Pass the loss to
        `update` as `value=`. None: no guard.

    A rule with `signal=True`, such as `mu_mlp`, counts the matrices among the leaves to
    see how deep the model is. Layers that are stacked in one leaf count as one matrix,
    and layers that `multi_transform` gives to another optimizer are not counted; its
    steps may then be too long. `lopt.unstacked` mends stacked layers.

    Raises:
      ValueError: if there is no such artifact (the message lists the released ones), if
        a file is damaged (the message names the file and the check that failed), if
        `num_steps` is missing or not a whole number, if a learning rate is negative or
        not finite, if the rule keeps no averages for a guard, or if there are arguments
        without a name.

    Warns:
      UserWarning: if `num_steps` or `mup` is outside the range that the rule was
        trained on, and once after `num_steps` updates outside of `jit`.
    """
    if name_or_path is None:
        if any(x is not None for x in (num_steps, mup, learning_rate, guard)):
            raise ValueError(f"which rule? Released: {', '.join(released())}.")
        return verdicts()
    theta, rule, card = artifact.read(find(name_or_path))
    checks.check_steps(num_steps)
    checks.check_rate("learning_rate", learning_rate)
    checks.check_rate("guard", guard)
    if num_steps is not None:
        _warn_outside(card, "num_steps", "trained_horizon", (num_steps,))
    stages = [rule.bind(theta, num_steps=num_steps)]
    if mup is not None:
        _warn_outside(card, "mup", "trained_widths", widths.width_ratios(mup))
        stages.append(widths.scale_updates(mup))
    rate = _rate(card["schedule"], num_steps, learning_rate)
    if rate is not None:
        stages.append(optax.scale_by_schedule(rate))
    if guard is None:
        return _warned(optax.chain(*stages), num_steps)
    if rule.adam is None:
        raise ValueError(f"{name_or_path} keeps no averages to make Adam of: no guard.")
    first, *then = stages
    return guards.guarded(
        _warned(first, num_steps),
        functools.partial(rule.adam, theta),
        learning_rate=guard,
        then=then,
        scale=None if mup is None else widths.scale_updates(mup),
    )


def verdicts() -> Verdicts:
    """Returns what each released rule is good for, in a line, by name."""
    cards = {name: artifact.read(find(name)).card for name in released()}
    return Verdicts({name: card["verdict"] for name, card in cards.items()})


def read(name_or_path: str | os.PathLike) -> artifact.Artifact:
    """Returns theta, rule and card of a released artifact, or one at a path.

    Raises:
      ValueError: as `load`.
    """
    return artifact.read(find(name_or_path))


def verify(name_or_path: str | os.PathLike) -> float:
    """Returns how far a rule is, on this machine, from what it did when saved.

    Raises:
      ValueError: as `load`, or if it is further than rounding.
    """
    return artifact.verify(find(name_or_path))


def released() -> tuple[str, ...]:
    """Returns the names of the artifacts that came with this package."""
    places = _shelf().iterdir() if _shelf().is_dir() else ()
    return tuple(sorted(x.name for x in places if (x / artifact.CARD).is_file()))


def _shelf() -> Any:
    """Returns the directory of released artifacts: package data, or the checkout's."""
    package = importlib.resources.files("lopt")
    shelf = package / "checkpoints"
    return shelf if shelf.is_dir() else Path(str(package)).parent / "checkpoints"


def find(name_or_path: str | os.PathLike) -> Any:
    """Returns the directory of a released artifact, or of one at a path.

    Raises:
      ValueError: if there is neither, listing the released ones; or if one is there
        in the directory of the run that is named, or the file's, naming that.
    """
    if name_or_path in released():
        return _shelf() / name_or_path
    path = Path(os.path.expanduser(name_or_path))
    if (path / artifact.CARD).is_file():
        return path
    for place in (path / "artifact", path.parent):
        if (place / artifact.CARD).is_file():
            raise ValueError(f"no artifact {str(path)!r}; did you mean {str(place)!r}?")
    if path.is_dir():
        return path
    raise ValueError(
        f"no artifact {str(name_or_path)!r}: neither a directory nor released; "
        f"released: {', '.join(released()) or 'none'}."
        f"{names.near(str(name_or_path), released())}"
    )


def _rate(
    schedule: dict[str, Any] | None, num_steps: Any, given: Any
) -> optax.Schedule | None:
    """Returns what multiplies updates: a card's schedule, at a peak that is given."""
    if callable(given):
        return given
    if given is not None and (schedule is None or num_steps is None):
        return optax.constant_schedule(given)
    if schedule is None:
        return None
    if given is not None:
        schedule = schedule | {"peak": given}
    if num_steps is None and schedule["name"] != "constant":
        raise ValueError(
            "this rule was trained under a schedule: pass num_steps, the number of "
            "updates you will do, or a learning_rate of your own."
        )
    return schedules.build(**schedule, num_steps=num_steps)


def _warned(
    tx: optax.GradientTransformationExtraArgs, num_steps: Any
) -> optax.GradientTransformationExtraArgs:
    """Returns `tx`, whose update warns once if it knows that the run is over.

    Inside `jit` counts are not known, and a callback there would cost every step.
    """
    if not checks.is_known(num_steps):
        return tx
    warned = False

    def update(grads, state, params=None, **extra):
        nonlocal warned
        counts = [x for _, x in optax.tree.get_all_with_path(state, "count")]
        if not warned and any(checks.is_known(x) and x >= num_steps for x in counts):
            warned = True
            warnings.warn(
                f"more updates than {num_steps=}: from here on a schedule that falls "
                "to 0 moves nothing, and a rule without one may diverge; load it for "
                "as many updates as you do.",
                stacklevel=2,
            )
        return tx.update(grads, state, params, **extra)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def _warn_outside(
    card: dict[str, Any], argument: str, field: str, values: tuple[Any, ...]
) -> None:
    """Warns if a value is outside the card's [low, high]."""
    if card[field] is None or not all(map(checks.is_known, values)):
        return
    low, high = card[field]
    if min(values) < low or max(values) > high:
        warnings.warn(
            f"{argument} is {' to '.join(str(x) for x in sorted({*values}))}, but the "
            f"rule's {field} are {low} to {high}: it may do badly.",
            stacklevel=3,
        )
