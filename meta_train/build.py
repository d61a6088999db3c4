"""`ConfigDict` -> `Run`: everything that one config describes, built."""

import dataclasses
import importlib.util
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from common import checks, settings
from common.names import known
from lopt.types import LearnedOptimizer
from meta_train import estimators, learner
from meta_train import validation as meta_validation
from meta_train.artifacts import starting as thetas
from meta_train.inner import options
from meta_train.inner.training import Inner
from tasks import families, suites
from tasks.base import TaskFamily

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
    end_learning_rate: float
    warmup_steps: int
    weight_decay: float
    clip: float
    average: float
    balance: bool

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
    """The host looks at metrics every `every` meta-steps; TensorBoard if asked."""

    every: int
    tensorboard: bool

    def __post_init__(self) -> None:
        """Raises ValueError for no steps, or where TensorBoard cannot be served."""
        checks.need("config.log", vars(self), {"every >= 1": self.every >= 1})
        if self.tensorboard and importlib.util.find_spec("tensorboardX") is None:
            raise ValueError(
                "config.log.tensorboard needs tensorboardX: `pip install tensorboardX`."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saving:
    """A checkpoint every `every` meta-steps, of which the newest `keep` are kept."""

    every: int
    keep: int

    def __post_init__(self) -> None:
        """Raises ValueError unless a step can be kept while the next is saved."""
        needed = {"every >= 1": self.every >= 1, "keep >= 2": self.keep >= 2}
        checks.need("config.checkpoint", vars(self), needed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What one config says, built.

    Attributes:
      config: the resolved config.
      families: the tasks meta-trained on, by name.
      learner: initialises, and takes meta-steps.
      data: arrays of each family, on every device.
      whole: a theta -> the same, with the leaves that are not learned.
      inner_steps: of a meta-step, of all workers together.
      outer: settings of the outer optimizer.
      log: when to look at metrics.
      saving: when to save.
      validate_every: meta-steps between meta-validations; 0 for none, so that the
        last average of theta is the one to export.
      blend: whether means of several averages of theta are validated too.
      scores: theta -> {task: meta-validation score}, lower is better.
    """

    config: dict[str, Any]
    families: dict[str, TaskFamily]
    learner: learner.Learner
    data: Any
    whole: Callable[[Any], Any]
    inner_steps: int
    outer: Outer
    log: Log
    saving: Saving
    validate_every: int
    blend: bool
    scores: Callable[[Any], dict[str, jax.Array]]

    def trace(self) -> None:
        """Raises what a meta-step would, such as that a task has no logits."""
        self.learner.trace(self.data)


def build(config: Any) -> Run:
    """Returns the run that a config describes, without compiling anything of it.

    Args:
      config: a `ConfigDict` or plain dicts; its keys are the arguments of the
        builders, so each value lives once, in the config.

    Raises:
      ValueError: naming a key that is unknown (with its nearest neighbour) or
        missing, a name that is unknown (with the known ones), or a bad value.
      FileNotFoundError: when the family's dataset has not been prepared.
    """
    resolved = settings.resolve(config)
    return settings.call(_build, "config", resolved, resolved=resolved)


def outer_optimizer(outer: Outer) -> optax.GradientTransformation:
    """Returns clipping by global norm, then AdamW.

    Clipping comes first: after an adaptive optimizer a bound of 1 never binds.
    """
    rate = optax.warmup_cosine_decay_schedule(
        0.0,
        outer.learning_rate,
        outer.warmup_steps,
        outer.num_steps,
        outer.end_learning_rate,
    )
    adamw = optax.adamw(rate, weight_decay=outer.weight_decay)
    return optax.chain(optax.clip_by_global_norm(outer.clip), adamw)


def worker_mesh() -> Mesh:
    """Returns all devices along one axis, "worker"."""
    return jax.make_mesh(
        (jax.device_count(),), ("worker",), axis_types=(AxisType.Auto,)
    )


def _build(
    *,
    seed: int,
    rule: Section,
    theta: Section,
    family: Section,
    inner: Section,
    estimator: Section,
    outer: Section,
    log: Section,
    checkpoint: Section,
    validation: Section,
    resolved: dict[str, Any],
) -> Run:
    """Returns the run; its arguments are the sections of a config."""
    log = settings.call(Log, "config.log", log)
    saving = settings.call(Saving, "config.checkpoint", checkpoint)
    outer = settings.call(Outer, "config.outer", outer)
    rule, whole = settings.call(_theta, "config.theta", theta, rule=rule, seed=seed)
    families, weights = settings.call(_families, "config.family", family)
    _check_memory(families)
    inners = {
        name: settings.call(options.inner, "config.inner", inner, rule=rule, family=one)
        for name, one in families.items()
    }
    every, blend, scores = settings.call(
        _validation,
        "config.validation",
        validation,
        rule=rule,
        families=families,
        schedule=inner["schedule"],
    )
    mesh = worker_mesh()
    each = {
        name: settings.call(
            _estimator, "config.estimator", estimator, inner=one, devices=mesh.size
        )
        for name, one in inners.items()
    }
    estimator = estimators.mix(each, weights, balance=outer.balance)
    data = tuple(one.data for one in families.values())
    return Run(
        config=resolved,
        families=families,
        learner=learner.build(
            rule=rule,
            estimator=estimator,
            outer=outer_optimizer(outer),
            average=outer.average,
            seed=seed,
            mesh=mesh,
        ),
        data=jax.device_put(data, NamedSharding(mesh, PartitionSpec())),
        whole=whole,
        inner_steps=estimator.steps,
        outer=outer,
        log=log,
        saving=saving,
        validate_every=every,
        blend=blend,
        scores=scores,
    )


def _theta(
    *,
    start: str | None,
    frozen: tuple[str, ...],
    changed: tuple[str, ...] = (),
    rule: Section,
    seed: int,
) -> tuple[LearnedOptimizer, Callable[[Any], Any]]:
    """Returns the rule as far as it is learned, and its theta -> that of the whole."""
    built = thetas.started(rule, start, changed)
    key = learner.theta_key(seed)
    learned = thetas.frozen(built, frozen, key)
    if not frozen:
        return learned, lambda part: part
    whole = built.init(key)
    return learned, lambda part: thetas.joined(part, whole)


def _families(
    *, name: str, args: Section
) -> tuple[dict[str, TaskFamily], dict[str, float]]:
    """Returns the families of a section, one or a suite's, and their weights.

    The `args` of a suite are weights of its tasks, 1 where they are not set; tasks of
    weight 0 are left out.
    """
    if name in suites.SUITES:
        tasks = suites.SUITES[name]
        for task in args:
            known(f"task of {name}", task, tasks)
        weights = {task: args.get(task, 1.0) for task in tasks}
        for task in args:
            fine = isinstance(args[task], int | float) and 0 <= args[task] < math.inf
            checks.need("config.family.args", args, {f"{task} >= 0, finite": fine})
        weights = {task: weight for task, weight in weights.items() if weight}
        return {task: suites.family(tasks[task]) for task in weights}, weights
    known("family or suite", name, [*families.FAMILIES, *suites.SUITES])
    section = {"name": name, "args": args}
    one = settings.named(families.FAMILIES, families.build, "config.family", section)
    return {name: one}, {name: 1.0}


def _check_memory(families: Mapping[str, TaskFamily]) -> None:
    """Raises ValueError for families whose data would have to stream."""
    for one in families.values():
        if one.stream is not None:
            raise ValueError(
                f"the dataset of {one.name} is larger than memory (see "
                "`tasks.data.IN_MEMORY`): meta-training keeps all data on the device; "
                "only evaluation streams them. Try a smaller set, or config of it."
            )


def _estimator(
    *, name: str, num_workers: int, args: Section, inner: Inner, devices: int
) -> estimators.Estimator:
    if num_workers < 1 or num_workers % devices:
        raise ValueError(
            "config.estimator.num_workers must be a positive multiple of the number of "
            f"devices, got {num_workers=} and {devices=}; try "
            f"{max(num_workers - num_workers % devices, devices)}."
        )
    return settings.named(
        estimators.ESTIMATORS,
        estimators.build,
        "config.estimator",
        {"name": name, "args": estimators.built(args)},
        inner=inner,
        num_workers=num_workers,
    )


def _validation(
    *,
    every: int,
    blend: bool,
    suite: str | None,
    lengths: tuple[int, ...],
    valid_weight: float,
    log_offset: float | None,
    last: float,
    first_seed: int,
    num_seeds: int,
    rule: LearnedOptimizer,
    families: dict[str, TaskFamily],
    schedule: dict[str, Any] | None,
) -> tuple[int, bool, Callable[[Any], dict[str, jax.Array]]]:
    """Returns when and how to validate: on the families, or on a suite of its own."""
    needed = {"every >= 0": every >= 0, "first_seed >= 0": first_seed >= 0}
    checks.need("config.validation", locals(), needed)
    tasks = {name: (one, lengths) for name, one in families.items()}
    if suite is not None:
        entries = suites.SUITES[known("suite", suite, suites.SUITES)]
        tasks = {
            name: (suites.family(one), lengths or (one.num_steps,))
            for name, one in entries.items()
        }
    scores = meta_validation.scores(
        rule=rule,
        tasks=tasks,
        schedule=schedule,
        valid_weight=valid_weight,
        log_offset=log_offset,
        last=last,
        first_seed=first_seed,
        num_seeds=num_seeds,
    )
    return every, blend, scores
