"""Measures how long a rule is meta-trained until it beats tuned Adam on the digits MLP.

    python -m benchmarks.time_to_beat [METHOD...]

Each method meta-trains the rule of `configs/demo.py` from three seeds. Every few
meta-steps the clock stands still and the average of theta is judged on ten seeds of
their own; it beats Adam once its loss is below that of Adam on the same seeds, whose
schedule and rate were tuned on others. Compiling counts. Results go into
`docs/time_to_beat.json`, one entry a method, and into the plot beside it; the table is
printed for the page.
"""

import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from common import canvas, settings
from common.canvas import LIGHT
from configs import demo
from evaluation.runs import curves
from lopt import artifact, rules
from lopt.baselines import BASELINES
from meta_train import build
from meta_train.sections import complete
from tasks import families

ROOT = pathlib.Path(__file__).parent.parent
RECORD = ROOT / "docs" / "time_to_beat.json"
NUM_STEPS, LIMIT = 200, 300.0  # updates of a run; seconds of meta-training
META_SEEDS, TUNING = (0, 1, 2), tuple(range(5))
JUDGING = tuple(range(20_000, 20_010))  # neither tuned on nor reported elsewhere
METRICS = {
    "mean": lambda found: found.train.mean(-1),
    "final": lambda found: found.train[..., -10:].mean(-1),
}
# What Adam is tuned over: schedules, and rates of 4 a decade.
TRIALS = [
    {"schedule": schedule, "learning_rate": 10 ** (k / 4)}
    for schedule in ("constant", "linear", "cosine")
    for k in range(-16, -3)
]

# Stretches of meta-training: a variant of configs/demo.py, its changes, and meta-steps.
Stretch = tuple[str, dict[str, Any], int]
METHODS: dict[str, list[Stretch]] = {
    "truncated": [("truncated", {}, 800)],
    "bootstrapped": [("bootstrapped", {}, 800)],
    "pes": [("pes", {}, 6_000)],
    "nres": [("nres", {}, 3_000)],
    "bootstrapped, then pes": [("bootstrapped", {}, 100), ("pes", {}, 3_000)],
}


def config(stretch: Stretch, seed: int, start: str | None) -> Any:
    """Returns the config of a stretch, from the theta of an artifact or from none."""
    variant, changes, num_steps = stretch
    given = {"seed": seed, "theta.start": start, "outer.num_steps": num_steps}
    return settings.changed(complete(demo.get_config(variant)), changes | given)


def trained(method: str, seed: int, every: int) -> Iterator[tuple[int, float, Any]]:
    """Yields (meta-steps, seconds, theta) every few meta-steps; what waits is free."""
    seconds, done, start = 0.0, 0, None
    with tempfile.TemporaryDirectory() as directory:
        for stretch in METHODS[method]:
            jax.clear_caches()  # each seed compiles anew
            began = time.monotonic()
            run = build.build(config(stretch, seed, start))
            state = run.learner.init(run.data)
            for step in range(1, stretch[2] + 1):
                state, _ = run.learner.step(state, run.data)
                if step % every and step < stretch[2]:
                    continue
                jax.block_until_ready(state)
                seconds += time.monotonic() - began
                yield done + step, seconds, state.average
                began = time.monotonic()
            done += stretch[2]
            start = str(pathlib.Path(directory) / "artifact")
            rule = run.config["rule"]
            artifact.save(
                start,
                rule=rule["name"],
                rule_args=rule["args"],
                theta=state.average,
                card={},
            )
            seconds += time.monotonic() - began


def judge() -> tuple[Callable[[Any], dict[str, float]], dict[str, float]]:
    """Returns theta -> its losses on the judging seeds, and those of tuned Adam."""
    c = complete(demo.get_config(""))
    family = families.build(c["family"]["name"], **c["family"]["args"])
    track = curves.track(family, valid_every=20)
    adam = curves.runner(track, BASELINES["adam"].build)
    tried = curves.run(adam, num_steps=NUM_STEPS, seeds=TUNING, hyperparameters=TRIALS)
    chosen = {
        name: TRIALS[int(np.nanargmin(metric(tried).mean(-1)))]
        for name, metric in METRICS.items()
    }
    rule = rules.build(c["rule"]["name"], **c["rule"]["args"])
    structure = jax.tree.structure(jax.eval_shape(rule.init, jax.random.key(0)))

    def learned(num_steps: Any, **leaves: Any) -> Any:
        theta = structure.unflatten(leaves[str(i)] for i in range(len(leaves)))
        return rule.bind(theta, num_steps=num_steps)

    runner = curves.runner(track, learned)

    def losses(runner: curves.Runner, trial: dict[str, Any]) -> dict[str, float]:
        found = curves.run(
            runner, num_steps=NUM_STEPS, seeds=JUDGING, hyperparameters=[trial]
        )
        return {name: float(metric(found).mean()) for name, metric in METRICS.items()}

    def of_theta(theta: Any) -> dict[str, float]:
        leaves = enumerate(jax.device_get(jax.tree.leaves(theta)))
        return losses(runner, {str(i): leaf for i, leaf in leaves})

    return of_theta, {name: losses(adam, trial)[name] for name, trial in chosen.items()}


def raced(method: str, seed: int, score: Any, adam: dict[str, float]) -> dict[str, Any]:
    """Returns the losses by seconds, until Adam is beaten in both or time is up."""
    rows = []
    for step, seconds, theta in trained(method, seed, every=20):
        rows.append({"step": step, "seconds": seconds} | score(theta))
        won = all(rows[-1][name] < adam[name] for name in METRICS)
        if won or seconds > LIMIT:
            break
    beaten = {
        name: next((r["seconds"] for r in rows if r[name] < adam[name]), None)
        for name in METRICS
    }
    beaten["both"] = rows[-1]["seconds"] if won else None
    return {"seed": seed, "beaten": beaten, "rows": rows}


def median(values: list[float | None]) -> str:
    """Returns the median of seconds, a dash being more than any."""
    middle = sorted(float("inf") if x is None else x for x in values)[len(values) // 2]
    return "–" if middle == float("inf") else f"{middle:.0f}"


def table(record: dict[str, Any]) -> str:
    """Returns the medians, with each seed's seconds in brackets, in Markdown."""
    lines = [
        "| seconds to beat Adam in | mean loss | final loss | both |",
        "|" + "---|" * 4,
    ]
    for method in (name for name in METHODS if name in record):
        runs = record[method]["runs"]
        cells = [
            f"{median(values)} ({', '.join(median([x]) for x in values)})"
            for values in (
                [run["beaten"][n] for run in runs] for n in (*METRICS, "both")
            )
        ]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def panel(record: dict[str, Any], metric: str) -> Any:
    """Returns a panel of a loss: a line a seed, and a star where it beats Adam."""

    def draw(axes: Axes) -> None:
        colours = (*LIGHT.candidates[:2], *LIGHT.baselines)
        for i, method in enumerate(name for name in METHODS if name in record):
            look = {"color": colours[i], "ls": canvas.DASHES[i % len(canvas.DASHES)]}
            for k, found in enumerate(record[method]["runs"]):
                x, y = (
                    [row[key] for row in found["rows"]] for key in ("seconds", metric)
                )
                axes.plot(x, y, lw=1.2, label=method if k == 0 else None, **look)
                if (won := found["beaten"][metric]) is not None:
                    star = {"marker": "*", "ms": 11, "mec": LIGHT.ink, "zorder": 4}
                    axes.plot(won, y[x.index(won)], color=colours[i], **star)
        axes.axhline(record["adam"][metric], color=LIGHT.ink, lw=1, label="tuned Adam")
        axes.set(title=f"{metric} loss; a star where Adam is beaten")
        axes.set(xlabel="seconds of meta-training", ylabel=f"{metric} loss")
        axes.set(yscale="log", xscale="log")
        axes.set_ylim(record["adam"][metric] / 3, record["adam"][metric] * 30)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter("")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")

    return draw


def plot(record: dict[str, Any]) -> bytes:
    """Returns, as PNG, the losses of every seed against seconds of meta-training."""
    return canvas.png([[panel(record, name) for name in METRICS]], height=4.2)


def main() -> None:
    """Measures the methods named, or all, and renews the record, table and plot."""
    score, adam = judge()
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    record["adam"] = adam
    for method in sys.argv[1:] or METHODS:
        runs = [raced(method, seed, score, adam) for seed in META_SEEDS]
        record[method] = {"stretches": METHODS[method], "runs": runs}
        print(method, [run["beaten"] for run in runs], flush=True)
        RECORD.write_text(json.dumps(record) + "\n", encoding="utf-8")
    RECORD.with_suffix(".png").write_bytes(plot(record))
    print(table(record))


if __name__ == "__main__":
    main()
