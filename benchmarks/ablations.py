"""Meta-trains variants of the release recipe, one change each, and judges them.

    JAX_COMPILATION_CACHE_DIR=.cache/jax python -m benchmarks.ablations \
      --seeds 2 --page docs/ablations.md

What is in the work directory is not trained again; `--redraw` makes the page from the
JSON beside it alone. `--quick` takes seconds, and says nothing.
"""

import argparse
import itertools
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
from matplotlib.axes import Axes

from common import canvas, settings
from common.canvas import LIGHT
from common.machine import provenance
from configs.release import mu_mlp
from lopt import rules
from lopt.baselines import BASELINES
from meta_train.build import Run, build
from meta_train.sections import complete
from meta_train.workdir import claim
from tasks import suites

TASKS = ("mlp", "mlp-deep", "autoencoder", "teacher_student", "quadratic")
JUDGED = {  # tasks of reported suites, by which nothing is chosen, and their seeds
    "mlp-widthx8": ("wider-v1", 4),
    "mlp-widthx32": ("wider-v1", 1),
    "mlp-depthx8": ("deeper-v1", 4),
    "mlp-stepsx5": ("longer-v1", 4),
    "teacher_student-stepsx25": ("longer-v1", 4),
}
LOOKS, RATES = 3, (1e-3, 3e-3, 1e-2, 3e-2)
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "eps=absolute": {"rule.args.eps": "absolute"},
    "head=normalised": {
        "rule.args.head": "normalised",
        "rule.args.step_mult": 1.0,
        "inner.schedule": {"name": "linear", "peak": 1e-2},
    },
    "signal=False": {"rule.args.signal": False},
    "nominal=0": {"rule.args.nominal": 0.0},
    "hidden=8": {"rule.args.hidden": 8},
    "time=absolute": {"rule.args.time": ("absolute",)},
    "time=log": {"rule.args.time": ("log",)},
    "time=relative,log": {"rule.args.time": ("relative", "log")},
    "horizon=200": {"inner.horizon": (200, 200)},
    "schedule=None": {"inner.schedule": None},
    "truncated": {"estimator.name": "truncated", "estimator.args": {}},
    "smoothed": {"estimator.name": "smoothed"},
    "pes": {"estimator.name": "pes"},
    "standard": {"family.name": "train-v2-standard"},
    "fixed": {"family.name": "train-v2-fixed"},
    "valid_weight=0": {"inner.valid_weight": 0.0},
    "muadam": {"rule": {"name": "muadam", "args": {}}},
}
DRAWN = ("valid-v1", "mlp-widthx32")
COLOURS = {"base": LIGHT.candidates[0], "muadam": LIGHT.ink}
HEAD = """The first stage of `configs/release/mu_mlp.py` with 8 workers, and a change in
each row, meta-trained for {seconds:g} s of CPU time, compiling apart, on {hardware}.
No row is tuned. All learn from {tasks}.
Made by `python -m benchmarks.ablations --seeds {seeds} --page docs/ablations.md`.
Code: {revisions}."""
PAGE = """# Ablations of the release recipe

{head}

{table}

Cells hold, for each meta-training seed, log(0.01 + loss over that at init) at the ends
of runs, lower being better: the mean of `valid-v1`, and tasks of `wider-v1`,
`deeper-v1` and `longer-v1`, by which nothing is chosen.

`head=normalised` comes with a step of 1 and a schedule from 0.01. `standard` has each
task, judged ones too, at its base width: widths divide neither updates nor logits.
`fixed` lacks the scales, label noise and activations of `mlp`; others have none.
`bootstrapped` is left out, as three of the families have no predictions to match.
`muadam` is Adam under muP on the base's schedule, at one rate, the best for `valid-v1`.

![Scores on valid-v1 and at 32 times the width; the base's range shaded]({picture})
"""


def standard(entry: suites.Entry) -> suites.Entry:
    """Returns the task in standard parametrization: its width is its base width."""
    changes = {"base_width": entry.args["width"]} if "base_width" in entry.args else {}
    return entry._replace(args={**entry.args, **changes})


def config(name: str, seed: int, *, quick: bool) -> dict[str, Any]:
    """Returns the resolved config of a variant."""
    c = mu_mlp.get_config("first,quick" if quick else "first")
    c.estimator.num_workers = 8
    tasks = ("softmax_regression", "quadratic") if quick else TASKS
    weights = {task: float(task in tasks) for task in suites.SUITES["train-v2"]}
    c.family = {"name": "train-v2", "weights": weights}
    c.validation.suite += "-standard" if name == "standard" else ""
    return settings.changed(complete(c), VARIANTS[name] | {"seed": seed})


def muadam() -> rules.LearnedOptimizer:
    """Returns Adam, whose theta is its rate; inner training scales it as muP asks."""
    adam = BASELINES["adam"].build
    return rules.LearnedOptimizer(
        lambda key: jax.numpy.float32(RATES[0]),
        lambda rate, num_steps=None: adam(num_steps=num_steps, learning_rate=rate),
    )


def built(name: str, seed: int, *, quick: bool) -> tuple[Run, Callable[..., Any]]:
    """Returns the run of a variant, and theta -> its scores on `JUDGED`."""
    every = dict(suites.SUITES)
    every |= {task: {task: every[suite][task]} for task, (suite, _) in JUDGED.items()}
    plain = every["in-dist-v1"]["mlp-digits"]
    every["train-v2-fixed"] = every["train-v2"] | {"mlp": plain}
    for suite, tasks in tuple(every.items()):
        every[f"{suite}-standard"] = {k: standard(x) for k, x in tasks.items()}
    c, each, rule = config(name, seed, quick=quick), [], {"muadam": muadam}
    with mock.patch.dict(suites.SUITES, every), mock.patch.dict(rules.RULES, rule):
        for task, (_, num_seeds) in tuple(JUDGED.items())[: 1 if quick else None]:
            suite = f"{task}-standard" if name == "standard" else task
            other = c["validation"] | {"suite": suite, "num_seeds": num_seeds}
            each.append(build(c | {"validation": other}).scores)
        run = build(c)
    return run, lambda theta: {k: float(x) for f in each for k, x in f(theta).items()}


def trained(run: Run, seconds: float) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yields meta-steps, seconds of CPU time, and theta; other work costs nothing."""
    run.learner.compile(run.data)
    state, spent = run.learner.init(run.data), 0.0
    for look in range(LOOKS + 1):
        began = time.process_time()
        while spent + time.process_time() - began < seconds * look / LOOKS:
            state, _ = jax.block_until_ready(run.learner.step(state, run.data))
        spent += time.process_time() - began
        yield {"step": int(state.step), "seconds": spent}, state.average


def tuned(run: Run) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yields the same of Adam, with the rate that is best by meta-validation."""
    rate = min(RATES, key=lambda x: np.mean([*run.scores(np.float32(x)).values()]))
    yield {"step": 0, "seconds": 0.0, "rate": rate}, np.float32(rate)


def measured(name: str, seed: int, *, seconds: float, quick: bool) -> dict[str, Any]:
    """Returns scores along meta-training and elsewhere; infinite: a run diverged."""
    (run, judge), rows = built(name, seed, quick=quick), []
    for row, theta in tuned(run) if name == "muadam" else trained(run, seconds):
        scores = jax.tree.map(float, run.scores(theta))
        rows.append(
            row | {"scores": scores, "mean": float(np.mean([*scores.values()]))}
        )
    return {"rows": rows, "judged": judge(theta)} | provenance()


def table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Returns the scores of every variant and seed, in Markdown."""
    judged = next(iter(runs.values()))[0]["judged"]
    heads = ["", "meta-steps", "valid-v1", *judged]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, found in runs.items():
        columns = []
        for run in found:
            end = run["rows"][-1]
            scores = end["mean"], *run["judged"].values()
            cells = [f"{x:.2f}" if x < np.inf else "diverged" for x in scores]
            columns.append([f"{end['step']:,}", *cells])
        title = f"{name}, {end['rate']:g}" if "rate" in end else name
        cells = [", ".join(each) for each in zip(*columns, strict=True)]
        lines.append(f"| {' | '.join([title, *cells])} |")
    return "\n".join(lines)


def panel(runs: dict[str, list[dict[str, Any]]], task: str) -> Any:
    """Returns a panel of the scores of a task, a dot for each seed of a variant.

    The range of the base's seeds is shaded: what lies in it is not told from the base.

    Args:
      runs: of every variant, its seeds.
      task: one of `JUDGED`, or "valid-v1".
    """
    scores = {
        name: [run["judged"].get(task, run["rows"][-1]["mean"]) for run in found]
        for name, found in runs.items()
    }

    def draw(axes: Axes) -> None:
        for y, (name, found) in enumerate(scores.items()):
            colour = COLOURS.get(name, LIGHT.baselines[0])
            axes.plot(found, [y] * len(found), "o", ms=5, color=colour)
        if base := [x for x in scores.get("base", ()) if np.isfinite(x)]:
            axes.axvspan(min(base), max(base), color=COLOURS["base"], alpha=0.15)
        axes.set_yticks(range(len(scores)), scores)
        axes.set_ylim(len(scores) - 0.5, -0.5)
        axes.set(title=task, xlabel="log loss at the end (← better)")

    return draw


def plot(runs: dict[str, list[dict[str, Any]]]) -> bytes:
    """Returns, as PNG, what every variant ends at where it is chosen and elsewhere."""
    return canvas.png([[panel(runs, task) for task in DRAWN]], height=4.6)


def write(page: Path, record: dict[str, Any]) -> None:
    """Writes a page and its picture; the end of a page that is there is kept."""
    runs, picture = record["runs"], page.with_suffix(".png")
    every = [run for seeds in runs.values() for run in seeds]
    revisions = dict.fromkeys(str(run["code_revision"]) for run in every)
    head = HEAD.format(
        **record,
        hardware=every[0]["hardware"],
        tasks=", ".join(TASKS),
        revisions=", ".join(revisions),
    )
    text = PAGE.format(head=head, table=table(runs), picture=picture.name)
    if page.exists():
        above, below = (
            text.split("\n\n")[:3],
            page.read_text(encoding="utf-8").split("\n\n")[3:],
        )
        text = "\n\n".join(above + below)
    page.write_text(text, encoding="utf-8")
    picture.write_bytes(plot(runs))


def recorded(workdir: Path, names: list[str], seeds: int, **given: Any) -> dict:
    """Returns all that is there once what is asked for is, each by its own process."""
    claim(workdir, given | {"base": config("base", 0, quick=given["quick"])})
    spawn = multiprocessing.get_context("spawn")
    for seed, name in itertools.product(range(seeds), names):
        path = workdir / f"{name}-{seed}.json"
        if path.exists() or (name == "muadam" and seed):
            continue
        with futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
            found = pool.submit(measured, name, seed, **given).result()
        path.write_text(json.dumps(found) + "\n", encoding="utf-8")
        print(path, found["rows"][-1]["mean"], found["judged"], flush=True)
    paths = {name: sorted(workdir.glob(f"{name}-*.json")) for name in VARIANTS}
    runs = {
        k: [json.loads(x.read_text(encoding="utf-8")) for x in v]
        for k, v in paths.items()
        if v
    }
    return given | {"seeds": seeds, "runs": runs}


def main() -> None:
    """Measures what is asked for, and writes JSON, page and picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--redraw", action="store_true")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--workdir", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--page", type=Path, required=True)
    args = parser.parse_args()
    path = args.page.with_suffix(".json")
    if not args.redraw:
        given = {"seconds": 0.1 if args.quick else args.seconds, "quick": args.quick}
        record = recorded(args.workdir, args.only, args.seeds, **given)
        path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    write(args.page, json.loads(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
