"""Writes what cards of released rules say of their evaluations into a page's table.

    python -m benchmarks.releases docs/releases.md

The page keeps its text; a test compares the table with the cards. An evaluation may
be drawn beside it: `--draw runs/wider` makes `docs/releases-wider-v1.png`; `--overview`
makes `docs/speedups.png` of what the cards say, for the README.
"""

import argparse
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lopt
from evaluation.report import panels, style
from evaluation.report.tables import NONE
from evaluation.report.wording import bounds, least, number
from evaluation.runs import results
from evaluation.scores.standings import Standing
from evaluation.statistics import Interval
from lopt.baselines import BASELINES

COLUMNS = (
    "suite",
    "rule",
    "tuning",
    "speed-up in steps",
    "in seconds",
    "final loss",
    "test loss",
    "diverged",
)

SHOWN = ("mu_mlp", "mu_norm")
SUITES = {
    "in-dist-v1": "families that they were trained on",
    "transfer-v2": "families, or cells, that they never saw",
}


def evaluations(name: str) -> dict[str, dict[str, Any]]:
    """Returns what a released rule's card holds, suite by suite, with `Standing`s."""
    found = lopt.read(name).card["evaluation"] or {}
    for entry in found.values():
        entry["standings"] = {x: _standing(y) for x, y in entry["standings"].items()}
    return found


def _standing(written: dict[str, Any]) -> Standing:
    values = {
        key: Interval(**x) if isinstance(x, dict) and "low" in x else x
        for key, x in written.items()
    }
    return Standing(**values)


def rows(suite: str, found: dict[str, Any], name: str) -> list[str]:
    """Returns a row each of a rule on a suite, of the reference, and of baselines."""
    lines = []
    for optimizer in dict.fromkeys((name, found["reference"], *found["standings"])):
        standing, trials = found["standings"][optimizer], found["trials"][optimizer]
        cells = [suite, optimizer, f"{trials} trials" if trials else "none"]
        for key in ("speedup", "speedup_seconds", "loss_ratio", "test_ratio"):
            interval = getattr(standing, key)
            if interval is None:
                cells.append(NONE)
                continue
            prefix = least(standing, key)
            cells.append(f"{prefix}{number(interval.value)} {bounds(interval)}")
        cells.append(f"{standing.diverged:.0%}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def table(names: list[str]) -> str:
    """Returns all that the cards of some released rules hold, suite by suite."""
    suites: dict[str, dict[str, None]] = {}  # the rows of each, without repetitions
    for name in names:
        for suite, found in evaluations(name).items():
            suites.setdefault(suite, {}).update(dict.fromkeys(rows(suite, found, name)))
    head = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    return "\n".join(itertools.chain(head, *suites.values()))


def renewed(page: str) -> str:
    """Returns a page with the first table anew, of all rules but the demo's."""
    names = [name for name in lopt.released() if name != "demo"]
    return re.sub(r"^\|.*(\n\|.*)*", table(names), page, count=1, flags=re.M)


def picture(found: results.Results) -> bytes:
    """Returns, as PNG, final losses along what grows, or else losses of every task.

    Few tasks show losses on validation data too.
    """
    lines = panels.lines(found.settings)
    draws = [panels.growth(found, line) for line in lines]
    tasks = found.settings["tasks"]
    splits = panels.SPLITS if len(tasks) < 3 else ("train",)
    draws = draws or [titled(found, *x) for x in itertools.product(tasks, splits)]
    columns = min(len(draws), 3 if len(draws) % 3 == 0 else 2)
    rows = [draws[n : n + columns] for n in range(0, len(draws), columns)]
    return style.png(rows, found.settings["optimizers"])


def titled(found: results.Results, task: str, split: str) -> panels.Draw:
    """Returns a panel of losses, with the name of the task above."""
    panel = panels.curves(found, task, split)

    def draw(axes: Any, styles: Any) -> None:
        panel(axes, styles)
        axes.set_title(task)

    return draw


def overview() -> bytes:
    """Returns, as PNG, speed-ups over tuned Adam on trained and on unseen families."""
    shown, optimizers = {}, {}
    for rule in SHOWN:
        for suite, found in evaluations(rule).items():
            names = (rule, *(x for x in found["standings"] if x in BASELINES))
            shown.setdefault(suite, {}).update(
                {name: found["standings"][name] for name in names}
            )
            optimizers |= {name: {"baseline": name not in SHOWN} for name in names}
    draws = [_speedups(shown[suite], title) for suite, title in SUITES.items()]
    return style.png([draws], optimizers)


def _speedups(standings: dict[str, Standing], title: str) -> panels.Draw:
    panel = panels.speedups(standings, "tuned Adam")

    def draw(axes: Any, styles: Any) -> None:
        panel(axes, {name: styles[name] for name in styles if name in standings})
        axes.set_title(title)

    return draw


def main(arguments: Sequence[str] | None = None) -> None:
    """Renews the table of a page, and draws evaluations beside it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--draw", type=Path, nargs="*", default=[], help="evaluations")
    parser.add_argument("--overview", action="store_true", help="for the README")
    given = parser.parse_args(arguments)
    given.page.write_text(
        renewed(given.page.read_text(encoding="utf-8")), encoding="utf-8"
    )
    if given.overview:
        given.page.with_name("speedups.png").write_bytes(overview())
    for found in map(results.load, given.draw):
        name = f"{given.page.stem}-{found.settings['suite']}.png"
        given.page.with_name(name).write_bytes(picture(found))


if __name__ == "__main__":
    main()
