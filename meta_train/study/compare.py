"""Meta-gradient estimators measured against the exact gradient, at a fixed theta.

`python -m meta_train.study.compare --config=... --workdir=... [--page=...]` writes
`results.json`, and `page.md` with its pictures. `--page` is another page to write, such
as one with prose: see `tables.write`.
"""

import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from common import command_line, disk, overrides, settings
from common.machine import provenance
from common.names import known
from lopt import rules
from lopt.types import LearnedOptimizer
from meta_train import estimators, learner
from meta_train.artifacts import starting
from meta_train.inner import options
from meta_train.inner.training import Inner
from meta_train.study import moments, tables
from meta_train.study.moments import Plan
from meta_train.workdir import claim
from tasks import families
from tasks.base import TaskFamily

Section = Mapping[str, Any]
RESULTS = "results.json"
FACTS = ("start", "window", "horizon", "num_workers")  # of a problem, in its results


def compare(config: Any, workdir: Path, page: Path | None = None) -> dict[str, Any]:
    """Returns the results of each problem of a config, and writes them.

    Problems whose results are in the work directory are not measured again.

    Args:
      config: see configs/compare_estimators.py.
      workdir: where results and a page go.
      page: another page to write, or to renew.

    Raises:
      ValueError: for a bad config, or a work directory of another.
    """
    resolved = complete(config)
    problems = settings.call(_problems, "config", resolved)
    claim(workdir, resolved, complete=complete)
    path = workdir / RESULTS
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for number, (name, measure) in enumerate(problems.items(), 1):
        if name not in results:
            with command_line.Pulse() as pulse:
                pulse.begin(f"measuring {name}: {number} of {len(problems)}")
                results[name] = measure() | provenance()
            with disk.writing(path):
                path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        for each in filter(None, (workdir / "page.md", page)):
            tables.write(each, results)
    return results


def complete(config: Any, renamed: Iterable[str] = ()) -> dict[str, Any]:
    """Returns a config, resolved, with every default of its builders written out."""
    full = {"seed": 0, **settings.resolve(config)}
    full["rule"] = settings.complete_named(
        rules.find, full.get("rule"), renamed="rule" in renamed
    )
    set_by_problems = ("rule", "family", "window", "horizon", "stagger")
    full["inner"] = settings.complete(
        options.inner, full.get("inner", {}), given=set_by_problems
    )
    for label, section in full.get("estimators", {}).items():
        given = ("inner", "num_workers")
        section = settings.complete_named(estimators.find, section, given=given)
        full["estimators"][label] = {"whole": False, "horizons": 1, **section}
    for name, section in full.get("problems", {}).items():
        section = settings.complete(Problem, section)
        family = settings.complete_named(families.find, section.get("family"))
        full["problems"][name] = section | {"family": family}
    return full


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """Settings of one problem.

    Attributes:
      family: `{"name", "args"}` of what is trained.
      window: inner steps that an estimate sees, unless it sees whole runs.
      horizon: inner steps of all runs, a multiple of `window`.
      num_workers: inner runs of an estimate.
      replicas: independent estimates of each estimator, at least 3.
      exact: replicas of `full` that make the exact gradient, at least 3.
      estimators: labels of those that are measured.
      start: artifact to take theta from; None: the rule's first theta.
      skip: horizons before those that count, at least 1.
    """

    family: Section
    window: int
    horizon: int
    num_workers: int
    replicas: int
    exact: int
    estimators: tuple[str, ...]
    start: str | None = None
    skip: int = 2

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of its range."""
        few = min(self.replicas, self.exact) < 3
        if self.window < 1 or self.horizon % self.window or self.skip < 1 or few:
            raise ValueError(
                "need a horizon that is a multiple of window, skip >= 1, and replicas "
                f"and exact >= 3, got horizon={self.horizon}, window={self.window}, "
                f"skip={self.skip}, replicas={self.replicas}, exact={self.exact}."
            )


def _problems(
    *, seed: int, rule: Section, inner: Section, estimators: Section, problems: Section
) -> dict[str, Callable[[], dict[str, Any]]]:
    """Returns what measures each problem; its arguments are sections of a config."""
    found = {}
    for name, section in problems.items():
        problem = settings.call(Problem, f"config.problems.{name}", section)
        found[name] = _measure(problem, rule, inner, estimators, seed)
    return found


def _measure(
    problem: Problem, rule: Section, inner: Section, table: Section, seed: int
) -> Callable[[], dict[str, Any]]:
    """Returns what measures a problem; sections are those of the config."""
    started = starting.started(rule, problem.start)
    family = settings.named(families.find, "config.family", problem.family)
    inners = _inners(problem, inner, started, family)
    plans = {
        label: settings.call(
            _plan,
            f"config.estimators.{label}",
            table[known("estimator", label, table)],
            label=label,
            inners=inners,
            problem=problem,
        )
        for label in problem.estimators
    }
    full = estimators.build("full", inner=inners[True], num_workers=problem.num_workers)
    theta = started.init(learner.theta_key(seed))
    facts = {
        "family": family.name,
        "parameters": _size(family.shapes),
        "theta": _size(theta),
        **{key: getattr(problem, key) for key in FACTS},
    }

    def measure() -> dict[str, Any]:
        counts = {"replicas": problem.replicas, "exact": problem.exact}
        found = measured(plans, full, theta, family.data, seed=seed, **counts)
        for label, row in found["rows"].items():
            row["name"] = table[label]["name"]
        return facts | found

    return measure


def _inners(
    problem: Problem, section: Section, rule: LearnedOptimizer, family: TaskFamily
) -> dict[bool, Inner]:
    """Returns inner training by whether an estimate sees a whole run.

    A window that is the horizon is a whole run if it begins with it.
    """
    horizon = (problem.horizon, problem.horizon)
    given = {"rule": rule, "family": family, "horizon": horizon}

    def built(window: int, stagger: bool) -> Inner:
        window_args = {"window": window, "stagger": stagger}
        return settings.call(
            options.inner, "config.inner", section, **given, **window_args
        )

    return {True: built(problem.horizon, False), False: built(problem.window, True)}


def _plan(
    *,
    name: str,
    args: Section = settings.NOTHING,
    whole: bool = False,
    horizons: int = 1,
    label: str,
    inners: Mapping[bool, Inner],
    problem: Problem,
) -> Plan:
    """Returns the plan of an estimator; the first four are its section of a config."""
    windows = problem.horizon // problem.window
    estimator = settings.named(
        estimators.find,
        f"config.estimators.{label}",
        {"name": name, "args": args},
        inner=inners[whole],
        num_workers=problem.num_workers,
    )
    if whole:
        return Plan(estimator, 0, horizons)
    return Plan(estimator, problem.skip * windows, horizons * windows)


def measured(
    plans: Mapping[str, Plan],
    full: Any,
    theta: Any,
    data: Any,
    *,
    seed: int,
    replicas: int,
    exact: int,
) -> dict[str, Any]:
    """Returns what each plan's estimates are, next to the mean of those of `full`.

    The exact gradient is the mean over `exact` replicas of `full`, which none of the
    plans has seen.
    """

    args = dict(theta=theta, data=data)
    plan = Plan(full, 0, 1)
    nowhere = np.zeros(_size(theta), np.float32)
    (reference,) = moments.sampled(
        {"exact": plan}, direction=nowhere, seed=seed, replicas=exact, **args
    ).values()
    mean = reference.means.mean(0)
    direction = np.float32(mean / np.linalg.norm(mean))
    found = moments.sampled(
        plans, direction=direction, seed=seed + 1, replicas=replicas, **args
    )
    return {
        "exact": moments.jackknife(moments.squared_norm, (reference.means,)),
        "runs": exact,
        "replicas": replicas,
        "rows": {
            name: moments.numbers(sample, plans[name], reference)
            for name, sample in found.items()
        },
    }


def _size(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def main(argv: list[str]) -> None:
    """Measures what a config says, or goes on where the same command was stopped."""
    if len(argv) > 1:
        sys.exit(f"error: unexpected arguments {argv[1:]}.")
    workdir, page = (
        command_line.path(x) if x else None
        for x in (flags.FLAGS.workdir, flags.FLAGS.page)
    )
    with command_line.ending(), disk.held(workdir):
        compare(flags.FLAGS.config, workdir, page)


if __name__ == "__main__":
    # Not on import, where they would clash with those of other command lines.
    config_flags.DEFINE_config_file(
        "config", None, "What to compare.", lock_config=True
    )
    flags.DEFINE_string("workdir", None, "Where results and the page go.")
    flags.DEFINE_string("page", None, "Another page to write, or to renew.")
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=functools.partial(overrides.parse, complete=complete))
