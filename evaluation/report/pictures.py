"""The pictures of a page, in light and in dark, with their numbers in words."""

import base64
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from common.canvas import DARK, LIGHT
from evaluation.report import panels, style
from evaluation.report.content import Summary
from evaluation.report.style import Draw
from evaluation.report.wording import bounds, least, number, share
from evaluation.runs.results import Results
from evaluation.scores import algoperf, time_to_target
from evaluation.scores.standings import REPORTED

SMALL = (3.3, 2.9)  # inches; four beside each other on a screen
FEW = 5  # tasks from which on a profile, in steps of one task, says anything


class Picture(NamedTuple):
    """A picture in both themes.

    Attributes:
      light: data URI.
      dark: data URI.
      caption: what it shows.
      alt: its numbers, for those who do not see it.
    """

    light: str
    dark: str
    caption: str
    alt: str


def verdict(results: Results, summary: Summary) -> list[Picture]:
    """Returns standings against the reference, and profiles of what is tuned."""
    found = []
    if _against(summary):
        reference = results.settings["reference"]
        more = max(0, len(results.settings["optimizers"]) - 6)
        size = (SMALL[0], SMALL[1] + 0.2 * more)
        caption = f"Speed-up over {reference}, 95 % intervals"
        alt = _intervals(summary, "speedup", caption)
        panel = panels.speedups(summary.standings, reference)
        found.append(_picture(results, panel, caption, alt, size))
        caption = f"Losses relative to {reference}'s, 95 % intervals"
        alt = " ".join(
            _intervals(summary, key, f"{label.capitalize()} relative to {reference}'s")
            for key, label, _ in panels.RATIOS
        )
        found.append(_picture(results, panels.ratios(summary), caption, alt, size))
    return [*found, *profiles(results, "tuned")]


def profiles(results: Results, rule: str) -> Iterator[Picture]:
    """Yields performance profiles under a rule of AlgoPerf, of enough tasks."""
    pool = time_to_target.pool(results, time_to_target.targets(results), rule)
    for unit in pool.times if len(pool.tasks) >= FEW else ():
        caption = f"Performance profile in {unit}, {rule}"
        alt = f"{caption}. {_shares(pool, unit)}"
        yield _picture(results, panels.profile(pool, unit), caption, alt, SMALL)


def growth(results: Results, summary: Summary) -> list[Picture]:
    """Returns a picture for each line that tasks of the suite grow along."""
    found = []
    for line, tasks in panels.lines(results.settings).items():
        caption = f"Final training loss as {line} grows"
        parts = [
            f"At {factor} times: {_losses(summary, task, 'final')}"
            for factor, task in tasks.items()
        ]
        alt = f"{caption}. {' '.join(parts)}"
        found.append(_picture(results, panels.growth(results, line), caption, alt))
    return found


def tuning(results: Results, summary: Summary) -> list[Picture]:
    """Returns what ever more trials brought, where that is known of anybody."""
    spent = {name: x for name, x in summary.budget.items() if x.by_trials}
    if not spent:
        return []
    caption = "Final training loss by trials, on the tuning seeds"
    halves = [
        f"{name} {number(x.by_trials[(len(x.by_trials) - 1) // 2])}"
        for name, x in spent.items()
    ]
    alt = f"{caption}. By half of them, over that by all: {', '.join(halves)}."
    return [_picture(results, panels.tuning(summary), caption, alt)]


def curves(results: Results, summary: Summary, task: str) -> list[Picture]:
    """Returns training and validation losses of a task."""
    found = []
    for split, (metric, title) in panels.SPLITS.items():
        caption = f"{title.capitalize()}, tuned for {REPORTED[metric].title}"
        alt = f"{caption}, on {task}. {_losses(summary, task, metric)}"
        found.append(
            _picture(results, panels.curves(results, task, split), caption, alt)
        )
    return found


def readme(results: Results, summary: Summary) -> bytes:
    """Returns the pictures of the verdict in one PNG, for a README."""
    pool = time_to_target.pool(results, time_to_target.targets(results), "tuned")
    rows = []
    if _against(summary):
        reference = results.settings["reference"]
        speedups = panels.speedups(summary.standings, reference)
        rows.append([speedups, panels.ratios(summary)])
    if len(pool.tasks) >= FEW:
        rows.append([panels.profile(pool, unit) for unit in pool.times])
    if not rows:
        task = next(iter(results.settings["tasks"]))
        rows.append([panels.curves(results, task, split) for split in panels.SPLITS])
    return style.png(rows, results.settings["optimizers"])


def _against(summary: Summary) -> bool:
    """Returns whether anything beside the reference is measured in its terms."""
    return sum(bool(x.speedup) for x in summary.standings.values()) > 1


def _picture(
    results: Results,
    draw: Draw,
    caption: str,
    alt: str,
    size: tuple[float, float] = style.SIZE,
) -> Picture:
    optimizers = results.settings["optimizers"]
    light, dark = (
        _data_uri(style.svg(draw, optimizers, theme, size=size))
        for theme in (LIGHT, DARK)
    )
    return Picture(light, dark, caption, alt)


def _data_uri(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _intervals(summary: Summary, key: str, title: str) -> str:
    texts = []
    for name, standing in summary.standings.items():
        interval = getattr(standing, key)
        if interval is None:
            texts.append(f"{name} failed")
            continue
        prefix = least(standing, key)
        texts.append(f"{name} {prefix}{number(interval.value)} {bounds(interval)}")
    return f"{title}: {', '.join(texts)}."


def _losses(summary: Summary, task: str, metric: str) -> str:
    """Returns what curves come to."""
    texts = []
    for row in summary.tasks[task].rows:
        if row.error:
            text = "failed"
        else:
            values = row.metrics[metric]
            text = "diverged"
            if values.value is not None:
                text = f"{number(values.value)} {bounds(values)}"
        texts.append(f"{row.optimizer} {text}")
    return f"{REPORTED[metric].title.capitalize()}: {', '.join(texts)}."


def _shares(pool: time_to_target.Pool, unit: str) -> str:
    """Returns a profile at three ratios."""
    taus = np.array([1.0, 2.0, algoperf.LIMIT])
    rows = algoperf.profile(pool.times[unit], taus)
    texts = [
        f"{name} {', '.join(map(share, row))}"
        for name, row in zip(pool.optimizers, rows, strict=True)
    ]
    ratios = ", ".join(f"{tau:g}" for tau in taus)
    return f"Share of tasks within {ratios} times the fastest: {'; '.join(texts)}."
