"""Meta-gradient estimators measured against the exact gradient, at a fixed theta.

`python -m meta_train.study.compare --config=... --workdir=... [--page=...]` writes
`results.json`, and `page.md` with its pictures. `--page` is another page to write, such
as one with prose: see `contrast.write`.
"""

import functools
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from common import command_line, disk, overrides, settings
from common.machine import provenance
from common.names import known
from meta_train import learner
from meta_train.artifacts import starting as thetas
from meta_train.estimators import ESTIMATORS, build, built
from meta_train.inner import options
from meta_train.inner.training import Inner
from meta_train.study import moments, tables
from meta_train.study.moments import Plan
from meta_train.workdir import claim
from tasks import families

Section = Mapping[str, Any]
RESULTS = "results.json"


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
    resolved = settings.resolve(config)
    problems = settings.call(_problems, "config", resolved)
    claim(workdir, resolved)
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


def _problems(
    *, seed: int, rule: Section, inner: Section, estimators: Section, problems: Section
) -> dict[str, Callable[[], dict[str, Any]]]:
    """Returns what measures each problem; its arguments are sections of a config."""
    given = dict(seed=seed, rule=rule, inner=inner, table=estimators)
    return {
        name: settings.call(_problem, f"config.problems.{name}", section, **given)
        for name, section in problems.items()
    }


def _problem(
    *,
    start: str | None,
    family: Section,
    window: int,
    horizon: int,
    num_workers: int,
    skip: int,
    replicas: int,
    exact: int,
    estimators: tuple[str, ...],
    seed: int,
    rule: Section,
    inner: Section,
    table: Section,
) -> Callable[[], dict[str, Any]]:
    """Returns what measures a problem; its arguments are its section of a config."""
    if window < 1 or horizon % window or skip < 1 or min(replicas, exact) < 3:
        raise ValueError(
            "need a horizon that is a multiple of window, skip >= 1, and replicas and "
            f"exact >= 3, got {horizon=}, {window=}, {skip=}, {replicas=}, {exact=}."
        )
    rule = thetas.started(rule, start)
    family = settings.named(families.FAMILIES, families.build, "config.family", family)
    inner_of = functools.partial(
        settings.call,
        options.inner,
        "config.inner",
        inner,
        rule=rule,
        family=family,
        horizon=(horizon, horizon),
    )
    # A window that is the horizon is a whole run if it begins with it.
    inners = {
        True: inner_of(window=horizon, stagger=False),
        False: inner_of(window=window, stagger=True),
    }
    plans = {
        label: settings.call(
            _plan,
            f"config.estimators.{label}",
            table[known("estimator", label, table)],
            label=label,
            inners=inners,
            num_workers=num_workers,
            skip=skip,
            windows=horizon // window,
        )
        for label in estimators
    }
    full = build("full", inner=inners[True], num_workers=num_workers, clip=None)
    theta = rule.init(learner.theta_key(seed))
    facts = {
        "family": family.name,
        "parameters": _size(family.shapes),
        "theta": _size(theta),
        "start": start,
        "window": window,
        "horizon": horizon,
        "num_workers": num_workers,
    }

    def measure() -> dict[str, Any]:
        found = measured(
            plans, full, theta, family.data, seed=seed, replicas=replicas, exact=exact
        )
        for label, row in found["rows"].items():
            row["name"] = table[label]["name"]
        return facts | found

    return measure


def _plan(
    *,
    name: str,
    args: Section,
    whole: bool,
    horizons: int,
    label: str,
    inners: Mapping[bool, Inner],
    num_workers: int,
    skip: int,
    windows: int,
) -> Plan:
    """Returns the plan of an estimator; the first four are its section of a config."""
    estimator = settings.named(
        ESTIMATORS,
        build,
        f"config.estimators.{label}",
        {"name": name, "args": built(args)},
        inner=inners[whole],
        num_workers=num_workers,
    )
    if whole:
        return Plan(estimator, 0, horizons)
    return Plan(estimator, skip * windows, horizons * windows)


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
        "exact": moments.jackknife(moments.own, (reference.means,)),
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
    app.run(main, flags_parser=overrides.parse)
