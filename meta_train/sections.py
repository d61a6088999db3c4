"""The sections of a config: their settings, and how they are completed."""

import dataclasses
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from common import checks, names, settings
from lopt import rules, schedules
from meta_train import estimators
from meta_train.inner import options
from tasks import families, suites

Section = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    """Settings of the outer optimizer, AdamW with warm-up and cosine decay.

    Attributes:
      num_steps: meta-steps of the whole run.
      learning_rate: the peak, reached after `warmup_steps`.
      end_learning_rate: the rate at `num_steps`.
      warmup_steps: meta-steps of linear warm-up from 0.
      weight_decay: decoupled, of every leaf of theta.
      clip: greatest global norm of the meta-gradient.
      average: decay of the average of theta, in [0, 1).
      balance: whether the gradients of each family of several are divided by the root
        of their mean square.
    """

    num_steps: int
    learning_rate: float
    end_learning_rate: float = 1e-4
    warmup_steps: int = 0
    weight_decay: float = 0.0
    clip: float = 1.0
    average: float = 0.99
    balance: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of its range."""
        needed = {
            "num_steps >= 1": self.num_steps >= 1,
            "learning_rate > 0": self.learning_rate > 0,
            "end_learning_rate >= 0": self.end_learning_rate >= 0,
            "weight_decay >= 0": self.weight_decay >= 0,
            "clip > 0": self.clip > 0,
            "0 <= average < 1": 0 <= self.average < 1,
            "0 <= warmup_steps < num_steps": 0 <= self.warmup_steps < self.num_steps,
        }
        checks.need("config.outer", vars(self), needed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Log:
    """How metrics are logged.

    Attributes:
      every: meta-steps between looks at metrics.
      tensorboard: whether they go to TensorBoard too.
      sink: `module:attribute` of a function that takes them too, to wherever a team
        keeps its metrics; see `logging.Sink`.
    """

    every: int = 10
    tensorboard: bool = False
    sink: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for no steps, or where TensorBoard cannot be served."""
        checks.need("config.log", vars(self), {"every >= 1": self.every >= 1})
        if self.tensorboard and importlib.util.find_spec("tensorboardX") is None:
            raise ValueError(
                "config.log.tensorboard needs tensorboardX: `pip install tensorboardX`."
            )
        if self.sink is not None:
            if not callable(names.find("config.log.sink", self.sink, {})):
                raise ValueError(f"config.log.sink {self.sink!r} is no function.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saving:
    """How checkpoints are saved.

    Attributes:
      every: meta-steps between them.
      keep: how many of the newest are kept, at least 2.
    """

    every: int = 100
    keep: int = 3

    def __post_init__(self) -> None:
        """Raises ValueError unless a step can be kept while the next is saved."""
        needed = {"every >= 1": self.every >= 1, "keep >= 2": self.keep >= 2}
        checks.need("config.checkpoint", vars(self), needed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """Where theta begins, and what of it is learned.

    Attributes:
      start: directory or released name of an artifact to go on from, or None.
      frozen: leaves or branches that are not learned, such as "decays".
      changed: arguments of the rule that may differ from the artifact's.
    """

    start: str | None = None
    frozen: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Validation:
    """How thetas are validated; see `validation.scores`.

    Attributes:
      every: meta-steps between meta-validations; 0: the last average is exported.
      blend: whether means of several averages of theta are validated too.
      suite: name of the suite whose tasks are validated on; None: the families that
        are trained on.
      lengths: inner steps of runs; (): the suite's, or the longest horizon.
      valid_weight: weight of the loss on `outer_valid`, in [0, 1].
      log_offset: c of log(c + loss), or None.
      last: share of a run's steps, at its end, that count, in (0, 1].
      first_seed: the first of the seeds, which no other part of a run may use.
      num_seeds: inner runs of each length.
    """

    every: int = 100
    blend: bool = False
    suite: str | None = None
    lengths: tuple[int, ...] = ()
    valid_weight: float = 0.25
    log_offset: float | None = None
    last: float = 1.0
    first_seed: int = 10_000
    num_seeds: int = 8

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of its range."""
        needed = {
            "every >= 0": self.every >= 0,
            "first_seed >= 0": self.first_seed >= 0,
        }
        checks.need("config.validation", vars(self), needed)


# Sections that are built from their keys alone.
PLAIN: dict[str, Callable[..., Any]] = {
    "theta": Start,
    "outer": Outer,
    "log": Log,
    "checkpoint": Saving,
    "validation": Validation,
}


def complete(config: Any, renamed: Iterable[str] = ()) -> dict[str, Any]:
    """Returns a config, resolved, with every default of its builders written out.

    So what is recorded is total, and configs of before an option was added stay what
    they were. What cannot be completed stays for `build` to refuse.

    Args:
      config: a `ConfigDict` or plain dicts.
      renamed: sections whose name is new, of which arguments are left out that only
        the builder of the old name takes.
    """
    full = {"seed": 0, **settings.resolve(config)}
    for name, builder in PLAIN.items():
        full[name] = settings.complete(builder, full.get(name, {}))
    if "rule" in full:
        full["rule"] = settings.complete_named(
            rules.find, full["rule"], renamed="rule" in renamed
        )
    if "family" in full:
        full["family"] = _family(full["family"], "family" in renamed)
    if "inner" in full:
        full["inner"] = inner(full["inner"])
    if "estimator" in full:
        full["estimator"] = _estimator(full["estimator"], "estimator" in renamed)
    return full


def inner(section: Any) -> Any:
    """Returns the section of inner training with its defaults, its schedule's too."""
    section = settings.complete(options.inner, section, given=("rule", "family"))
    if isinstance(section, Mapping) and section.get("schedule"):
        schedule = settings.complete(
            schedules.build, section["schedule"], given=("num_steps",)
        )
        section = section | {"schedule": schedule}
    return section


def _estimator(section: Any, renamed: bool) -> Any:
    if not isinstance(section, Mapping):
        return section
    given = ("inner", "num_workers")
    section = {"num_workers": 8, **section}
    return settings.complete_named(
        estimators.find, section, given=given, renamed=renamed
    )


def _family(section: Any, renamed: bool) -> Any:
    """Returns the section of families; a suite has a weight for each of its tasks."""
    if not isinstance(section, Mapping) or "name" not in section:
        return section
    suite = suites.maybe(section["name"])
    args, weights = (section.get(key, {}) for key in ("args", "weights"))
    if suite is None:
        section = {"weights": {}, **section}
        return settings.complete_named(families.find, section, renamed=renamed)
    if args and not renamed:  # configs of before there were `weights`
        args, weights = {}, {**args, **weights}
    if renamed:
        args, weights = {}, {x: w for x, w in weights.items() if x in suite}
    every = dict.fromkeys(suite, 1.0)
    return {**section, "args": args, "weights": {**every, **weights}}
