"""`ConfigDict` -> `Run`: everything that one config describes, built."""

import dataclasses
import functools
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
from meta_train.artifacts import starting
from meta_train.inner import options
from meta_train.inner.training import Inner
from meta_train.sections import Log, Outer, Saving, Section, Start, Validation, complete
from tasks import families, suites
from tasks.base import TaskFamily


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
      validation: when and how thetas are validated.
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
    validation: Validation
    scores: Callable[[Any], dict[str, jax.Array]]

    def trace(self) -> None:
        """Raises what a meta-step would, such as that a task has no logits."""
        self.learner.trace(self.data)


def build(config: Any) -> Run:
    """Returns the run that a config describes, without compiling anything of it.

    Args:
      config: a `ConfigDict` or plain dicts; its keys are the arguments of the
        builders, whose defaults stand for what it does not name.

    Raises:
      ValueError: naming a key that is unknown (with its nearest neighbour) or
        missing, a name that is unknown (with the known ones), or a bad value.
      FileNotFoundError: when the family's dataset has not been prepared.
    """
    resolved = complete(config)
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
    theta: Start,
    family: Section,
    inner: Section,
    estimator: Section,
    outer: Outer,
    log: Log,
    checkpoint: Saving,
    validation: Validation,
    resolved: dict[str, Any],
) -> Run:
    """Returns the run; its arguments are the sections of a config."""
    learned, whole = _rule(rule, theta, seed)
    trained, weights = settings.call(_families, "config.family", family)
    _check_memory(trained)
    inners = {
        name: settings.call(
            options.inner, "config.inner", inner, rule=learned, family=trained_on
        )
        for name, trained_on in trained.items()
    }
    scores = _scores(validation, learned, trained, inner)
    mesh = worker_mesh()
    each = {
        name: settings.call(
            _estimator, "config.estimator", estimator, inner=unrolled, devices=mesh.size
        )
        for name, unrolled in inners.items()
    }
    mixed = estimators.mix(each, weights, balance=outer.balance)
    data = tuple(x.data for x in trained.values())
    return Run(
        config=resolved,
        families=trained,
        learner=learner.build(
            rule=learned,
            estimator=mixed,
            outer=outer_optimizer(outer),
            average=outer.average,
            seed=seed,
            mesh=mesh,
        ),
        data=_everywhere(data, mesh),
        whole=whole,
        inner_steps=mixed.steps,
        outer=outer,
        log=log,
        saving=checkpoint,
        validation=validation,
        scores=scores,
    )


def _everywhere(data: Any, mesh: Mesh) -> Any:
    """Returns arrays that this process has, on every device of every process."""
    whole = NamedSharding(mesh, PartitionSpec())
    replicated = functools.partial(jax.make_array_from_process_local_data, whole)
    return jax.tree.map(replicated, data)


def _rule(
    section: Section, theta: Start, seed: int
) -> tuple[LearnedOptimizer, Callable[[Any], Any]]:
    """Returns the rule as far as it is learned, and its theta -> the whole theta."""
    built = starting.started(section, theta.start, theta.changed)
    key = learner.theta_key(seed)
    learned = starting.frozen(built, theta.frozen, key)
    if not theta.frozen:
        return learned, lambda part: part
    whole = built.init(key)
    return learned, lambda part: starting.joined(part, whole)


def _families(
    *, name: str, args: Section, weights: Section
) -> tuple[dict[str, TaskFamily], dict[str, float]]:
    """Returns the families of a section, one or a suite's, and their weights.

    Args:
      name: of a family or of a suite.
      args: of the family; a suite takes none.
      weights: by which tasks of a suite are drawn; tasks of weight 0 are left out.
    """
    tasks = suites.maybe(name)
    if tasks is None:
        known_ones = [*families.FAMILIES, *suites.SUITES]
        if ":" not in name:
            known("family or suite", name, known_ones)
        section = {"name": name, "args": args}
        return {name: settings.named(families.find, "config.family", section)}, {
            name: 1.0
        }
    for task, weight in weights.items():
        known(f"task of {name}", task, tasks)
        fine = isinstance(weight, int | float) and 0 <= weight < math.inf
        checks.need("config.family.weights", weights, {f"{task} >= 0, finite": fine})
    drawn = {task: weight for task, weight in weights.items() if weight}
    return {task: suites.family(tasks[task]) for task in drawn}, drawn


def _check_memory(trained: Mapping[str, TaskFamily]) -> None:
    """Raises ValueError for families whose data would have to stream."""
    for family in trained.values():
        if family.stream is not None:
            raise ValueError(
                f"the dataset of {family.name} is larger than memory (see "
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
    section = {"name": name, "args": args}
    given = {"inner": inner, "num_workers": num_workers}
    return settings.named(estimators.find, "config.estimator", section, **given)


def _scores(
    how: Validation,
    rule: LearnedOptimizer,
    trained: Mapping[str, TaskFamily],
    inner: Section,
) -> meta_validation.Scores:
    """Returns how thetas are scored: on the families, or on a suite of its own."""
    longest = (max(inner["horizon"]),)
    tasks = {name: (family, how.lengths or longest) for name, family in trained.items()}
    if how.suite is not None:
        tasks = {
            name: (suites.family(entry), how.lengths or (entry.num_steps,))
            for name, entry in suites.find(how.suite).items()
        }
    return meta_validation.scores(
        rule=rule,
        tasks=tasks,
        schedule=inner["schedule"],
        valid_weight=how.valid_weight,
        log_offset=how.log_offset,
        last=how.last,
        first_seed=how.first_seed,
        num_seeds=how.num_seeds,
    )
