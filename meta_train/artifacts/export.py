"""A run -> an artifact: theta with a card that says where it comes from.

Once it has been judged, its card takes the results, and a verdict, too:

    python -m meta_train.artifacts.export runs/demo/artifact runs/demo/evaluation mine
"""

import argparse
import itertools
import json
import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

import lopt
from common import command_line
from common.names import known
from lopt import artifact, mup
from meta_train.artifacts import starting
from meta_train.build import Run
from meta_train.logging import METRICS
from meta_train.loop import Progress

SHOWN = "mean", "final", "valid", "test", "speedup"  # of a task, in a card
# Fields of the artifact that its run went on from.
TRAINED = artifact.FIELDS[: artifact.FIELDS.index("licence")]
CURVE = 200  # meta-steps whose losses a card keeps, to be made again


def export(run: Run, progress: Progress, directory: Path, **made: Any) -> Path:
    """Writes the best averaged theta of a run as an artifact and returns its path.

    Args:
      run: from `build.build`.
      progress: where the run ended.
      directory: of the artifact; its files are replaced.
      **made: for the card, how the run is made again: its `command`, and the `curve`
        of its first losses.
    """
    rule = run.config["rule"]
    artifact.save(
        Path(directory),
        rule=rule["name"],
        rule_args=dict(rule["args"]),
        theta=jax.device_get(run.whole(progress.best)),
        card=card(run, progress) | made,
    )
    return Path(directory)


def curve(workdir: Path) -> list[float | None]:
    """Returns the losses of the first `CURVE` meta-steps; None where all diverged."""
    with (Path(workdir) / METRICS).open(encoding="utf-8") as rows:
        return [json.loads(row)["loss"] for row in itertools.islice(rows, CURVE)]


def card(run: Run, progress: Progress) -> dict[str, Any]:
    """Returns what is known of a run, as JSON values.

    Seconds are wall-clock of meta-training, summed over resumed parts; inner steps
    count every update of every run of every worker. Both are of this run alone, and
    those before it are in `start`; widths and horizons are of all.
    """
    config = run.config
    inner, estimator, validation = (
        config[name] for name in ("inner", "estimator", "validation")
    )
    start = _facts(config["theta"]["start"])
    families = run.families.values()
    ratios = [mup.width_ratios(mup.infer(x.shapes, x.base_shapes)) for x in families]
    return {
        "families": [config["family"] | {"full_names": [x.name for x in families]}],
        "trained_widths": _span(*ratios, start and start["trained_widths"]),
        "trained_horizon": _span(inner["horizon"], start and start["trained_horizon"]),
        "start": start,
        "schedule": inner["schedule"],
        "valid_weight": inner["valid_weight"],
        "estimator": estimator,
        "window": inner["window"],
        "meta_steps": progress.step,
        "inner_steps": progress.step * run.inner_steps,
        "seconds": round(progress.seconds, 1),
        **progress.origin,
        "versions": {"jax": jax.__version__, "python": platform.python_version()},
        "selected": {
            "meta_step": progress.best_step,
            "averages": progress.blended,  # that it is the mean of
            "score": _finite(progress.best_score),
            "by": validation if validation["every"] else "last average",
        },
        "config": config,
        "licence": "Apache-2.0",
    }


def _facts(start: str | None) -> dict[str, Any] | None:
    """Returns what the card of an artifact says of its training, or None."""
    if start is None:
        return None
    card = lopt.read(starting.place(start)).card
    return {name: card[name] for name in ("sha256", *TRAINED)}


def _span(*ranges: Sequence[float] | None) -> list[float]:
    """Returns the range of all ranges that are known."""
    known = [x for x in ranges if x is not None]
    return [min(low for low, _ in known), max(high for _, high in known)]


def _finite(score: float | None) -> float | None:
    """Returns a score, or None where each was infinite: JSON has no infinity."""
    return score if score is not None and math.isfinite(score) else None


def add_evaluation(directory: Path, report: Path, name: str) -> None:
    """Writes what an evaluation found of an artifact, and of baselines, into its card.

    It takes the place of an earlier one on the same suite.

    Args:
      directory: of the artifact.
      report: directory that `python -m evaluation` wrote.
      name: of the artifact in it.

    Raises:
      ValueError: if the artifact is damaged, or the report has no such optimizer.
    """
    results = json.loads((Path(report) / "results.json").read_text(encoding="utf-8"))
    settings, standings = results["settings"], results["standings"]
    if name not in standings:
        known(f"optimizer of {report}:", name, standings)
    shown = [
        optimizer
        for optimizer, entry in settings["optimizers"].items()
        if optimizer == name or entry["baseline"]
    ]
    summary = {
        **{key: settings[key] for key in ("seeds", "tuning", "reference")},
        **{key: results.get(key) for key in ("made", "environment")},
        "trials": {
            optimizer: settings["optimizers"][optimizer]["trials"]
            for optimizer in shown
        },
        "standings": {optimizer: standings[optimizer] for optimizer in shown},
        "tasks": {
            task: {
                row["optimizer"]: _kept(row)
                for row in entry["rows"]
                if row["optimizer"] in shown
            }
            for task, entry in results["tasks"].items()
        },
    }
    others = artifact.read(Path(directory)).card["evaluation"] or {}
    artifact.annotate(directory, evaluation=others | {settings["suite"]: summary})


def _kept(row: dict[str, Any]) -> dict[str, Any]:
    """Returns what a card takes of an optimizer on a task, or its error."""
    if row["error"]:
        return {"error": row["error"]}
    taken = row["metrics"] | {"speedup": row["speedup"]}
    return {
        name: {key: _short(x) for key, x in interval.items() if key != "values"}
        for name, interval in taken.items()
        if name in SHOWN and interval
    }


def _short(number: float | None) -> float | None:
    """Returns a number to four digits, so that cards stay below 100 kB."""
    return None if number is None else float(f"{number:.4g}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Adds an evaluation to a card."""
    parser = argparse.ArgumentParser(description=add_evaluation.__doc__.split("\n")[0])
    parser.add_argument(
        "artifact", type=command_line.path, help="directory of the artifact"
    )
    parser.add_argument(
        "report", type=command_line.path, help="directory of the evaluation"
    )
    parser.add_argument("name", help="of the artifact in the evaluation")
    parser.add_argument("--verdict", help="what the rule is good for, in one line")
    given = parser.parse_args(arguments)
    with command_line.ending():
        add_evaluation(given.artifact, given.report, given.name)
        if given.verdict:
            artifact.annotate(given.artifact, verdict=given.verdict)


if __name__ == "__main__":
    main()
