"""What pictures show: curves, profiles, standings, and losses as a task grows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.transforms import blended_transform_factory

from evaluation import statistics
from evaluation.report.content import Summary
from evaluation.report.style import Draw, Styles
from evaluation.report.wording import least
from evaluation.runs.results import Cell, Results
from evaluation.runs.tuning import DECAY
from evaluation.scores import algoperf, standings, time_to_target
from evaluation.statistics import Interval

# Panel -> what its runs are tuned for, and its title.
SPLITS = {"train": ("final", "training loss"), "valid": ("valid", "validation loss")}
POINTS = 80  # of a line
HIGH = 10.0  # times the loss at the start that a picture shows
ARROW = 9  # Matplotlib's caret to the right
RATIOS = (
    ("loss_ratio", "final training loss", -0.12),
    ("test_ratio", "test loss", 0.12),
)


def curves(results: Results, task: str, split: str) -> Draw:
    """Returns a panel of one line and band for each optimizer on a task.

    A line is a mean over seeds and ends, with a cross, where the first run diverges.
    """
    metric, title = SPLITS[split]

    def draw(axes: Axes, styles: Styles) -> None:
        drawn = {}
        for i, (name, style) in enumerate(styles.items()):
            cell = results.cell(name, task)
            if cell.error:
                continue
            steps, losses = _line(cell, metric, split)
            drawn[name] = losses
            # Markers of different lines stand apart.
            every = (0.14 * (i % 7) / 7, 0.14) if np.isfinite(losses).any() else None
            axes.plot(steps, losses.mean(0), label=name, markevery=every, **style)
            _band(axes, steps, losses, style)
            _end(axes, steps, losses.mean(0), style)
        _loss_scale(axes, list(drawn.values()))
        axes.set(xlabel="updates", ylabel=title)
        axes.set_xlim(0, results.settings["tasks"][task]["num_steps"])

    return draw


def profile(pool: time_to_target.Pool, unit: str) -> Draw:
    """Returns a panel of a performance profile, in steps or seconds."""
    times = pool.times[unit]
    taus = np.unique([*algoperf.ratios(times)[np.isfinite(times)], 1.0, algoperf.LIMIT])
    taus = taus[taus <= algoperf.LIMIT]
    shares = algoperf.profile(times, taus)

    def draw(axes: Axes, styles: Styles) -> None:
        rows = dict(zip(pool.optimizers, shares, strict=True))
        for name, style in styles.items():
            row = rows[name]
            jumps = [0, *(1 + np.flatnonzero(np.diff(row))), len(row) - 1]
            look = {"drawstyle": "steps-post", "markevery": jumps, **style}
            axes.plot(taus, row, label=name, clip_on=False, **look)
        axes.set(
            xlabel=f"{unit} to target / those of the fastest", ylabel="share of tasks"
        )
        axes.set(xlim=(1, algoperf.LIMIT), ylim=(-0.03, 1.03))

    return draw


def speedups(rows: dict[str, standings.Standing], reference: str) -> Draw:
    """Returns a panel of speed-ups with intervals, lower bounds with an arrow."""

    def draw(axes: Axes, styles: Styles) -> None:
        shown = _scored(rows, "speedup", styles)
        for y, (name, style) in enumerate(shown.items()):
            drawn = _interval(axes, rows[name].speedup, y, style)
            if least(rows[name]):
                axes.plot(drawn.high, y, marker=ARROW, ms=9, color=style["color"])
        _names(axes, list(shown))
        axes.set_xlabel(f"speed-up over {reference} in steps (better →)", loc="right")

    return draw


def ratios(summary: Summary) -> Draw:
    """Returns a panel of losses over the reference's, with intervals."""
    reference = summary.settings["reference"]

    def draw(axes: Axes, styles: Styles) -> None:
        ink, ground = axes.xaxis.label.get_color(), axes.get_facecolor()
        shown = _scored(summary.standings, "loss_ratio", styles)
        shown.pop(reference, None)
        for key, label, shift in RATIOS:
            fill = {} if key == "loss_ratio" else {"mfc": ground}
            for y, (name, style) in enumerate(shown.items()):
                if getattr(summary.standings[name], key) is None:
                    continue
                look = {**style, "mec": style["color"], "mew": 1.2, **fill}
                _interval(axes, getattr(summary.standings[name], key), y + shift, look)
            key_look = {"color": ink, "marker": "o", "ls": "", "mec": ink, **fill}
            axes.plot([], [], label=label, **key_look)
        _names(axes, list(shown))
        axes.set_xlabel(f"loss / loss of {reference} (← better)", loc="right")

    return draw


def tuning(summary: Summary) -> Draw:
    """Returns a panel of what was found by so many trials, over that by all."""

    def draw(axes: Axes, styles: Styles) -> None:
        shown = {name: summary.budget[name].by_trials for name in styles}
        curves = {name: np.array(x) for name, x in shown.items() if x}
        most = max(map(len, curves.values()))
        for name, curve in curves.items():
            jumps = [0, *(1 + np.flatnonzero(np.diff(curve)))]
            look = {"drawstyle": "steps-post", "markevery": jumps, **styles[name]}
            axes.plot(np.arange(1, len(curve) + 1), curve, label=name, **look)
        ticks = 2 ** np.arange(int(np.log2(most)) + 1)
        axes.set(xscale="log", yscale="log", xlabel="trials of its tuning")
        axes.set_xticks(ticks, map(str, ticks))
        axes.minorticks_off()
        axes.set_ylabel("final loss / that of all trials")
        _ticks(axes.yaxis, *axes.get_ylim())

    return draw


def growth(results: Results, line: str) -> Draw:
    """Returns a panel of final losses against a factor of growth.

    Where a run diverged or the cell failed, there is a mark at the upper edge instead.
    """
    grown = lines(results.settings)[line]
    factors, tasks = np.array([*grown]), [*grown.values()]

    def draw(axes: Axes, styles: Styles) -> None:
        # From data across, from the axes upwards.
        edge = blended_transform_factory(axes.transData, axes.transAxes)
        drawn = []
        for i, (name, style) in enumerate(styles.items()):
            losses = standings.runs(results, name, "final", tasks)
            lost = ~np.isfinite(losses).all(-1)
            losses = np.where(lost[:, None], np.nan, losses)
            drawn.append(losses.T)
            axes.plot(factors, losses.mean(-1), label=name, **style)
            _band(axes, factors, losses.T, style)
            beside = factors[lost] * 2 ** (0.05 * i)
            at_edge = style | {"ls": "", "clip_on": False, "transform": edge}
            (marks,) = axes.plot(beside, np.ones(lost.sum()), **at_edge)
            marks.set_in_layout(False)
        _loss_scale(axes, drawn, limit=np.inf)
        axes.set_xscale("log", base=2)
        axes.set_xticks(factors, [f"×{x}" for x in factors])
        axes.minorticks_off()
        axes.set_xlim(factors[0] / 1.2, factors[-1] * 1.2 * 2 ** (0.05 * len(styles)))
        axes.set(xlabel=line, ylabel="final training loss")

    return draw


def lines(settings: Mapping[str, Any]) -> dict[str, dict[int, str]]:
    """Returns {line: {factor: task}}, factors ascending, of what has grown."""
    found: dict[str, dict[int, str]] = {}
    for task, setting in settings["tasks"].items():
        if setting["growth"]:
            found.setdefault(setting["growth"]["line"], {})[
                setting["growth"]["factor"]
            ] = task
    return {line: dict(sorted(by_factor.items())) for line, by_factor in found.items()}


def _scored(rows: dict[str, standings.Standing], key: str, styles: Styles) -> Styles:
    """Returns the styles of optimizers that have a number; others failed."""
    return {
        name: style
        for name, style in styles.items()
        if getattr(rows[name], key) is not None
    }


def _line(cell: Cell, metric: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns [p] steps and [s, p] losses, NaN from the first divergence on."""
    found = cell.best(metric).curves
    steps, losses = found.steps, found.valid[0].astype(np.float64)
    if split == "train":
        with np.errstate(invalid="ignore", over="ignore"):
            losses = statistics.smooth(found.train[0], DECAY)
        count = losses.shape[-1]
        picks = np.unique(np.linspace(0, count - 1, POINTS).astype(int))
        steps, losses = picks + 1, losses[:, picks]
    alive = np.logical_and.accumulate(np.isfinite(losses).all(0))
    return steps, np.where(alive, losses, np.nan)


def _band(
    axes: Axes, x: np.ndarray, losses: np.ndarray, style: Mapping[str, Any]
) -> None:
    """Fills between quantiles over seeds, of losses [s, p]."""
    if len(x) > POINTS // 2:  # half the points are as good here, and half as long
        x, losses = x[::-2], losses[:, ::-2]
    low, high = np.quantile(losses, [0.1, 0.9], axis=0)
    axes.fill_between(x, low, high, color=style["color"], alpha=0.15, lw=0)


def _end(
    axes: Axes, steps: np.ndarray, mean: np.ndarray, style: Mapping[str, Any]
) -> None:
    """Marks the end of a line that has one before the last step."""
    alive = np.flatnonzero(np.isfinite(mean))
    if len(alive) and len(alive) < len(mean):
        cross = {"marker": "x", "ms": 9, "mew": 2, "color": style["color"]}
        axes.plot(steps[alive[-1]], mean[alive[-1]], **cross)


def _interval(
    axes: Axes, interval: Interval, y: float, style: Mapping[str, Any]
) -> Interval:
    """Draws a value and its interval, and returns them."""
    axes.plot([interval.low, interval.high], [y, y], color=style["color"], lw=2)
    axes.plot(interval.value, y, **{**style, "ls": "", "ms": 8})
    return interval


def _names(axes: Axes, names: Sequence[str]) -> None:
    """Names the rows of a panel of intervals, whose axis is logarithmic about 1."""
    axes.axvline(1, color=axes.xaxis.label.get_color(), lw=1, zorder=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(1, len(names)) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.set_xscale("log")
    _ticks(axes.xaxis, *axes.get_xlim())


def _loss_scale(
    axes: Axes, losses: Sequence[np.ndarray], *, limit: float = HIGH
) -> None:
    """Sets the axis of losses, [s, p] of each line: up to some times the first."""
    first, values = _finite([x[:, 0] for x in losses]), _finite(losses)
    if not len(values):
        return
    low, high = values.min(), values.max()
    start = np.median(first) if len(first) else high
    if low > 0:
        axes.set_yscale("log")
        high = max(min(high, limit * start), low * 1.01)
        pad = (high / low) ** 0.05
        axes.set_ylim(low / pad, high * pad)
        _ticks(axes.yaxis, low, high)
    else:
        high = min(high, start + limit * max(start - low, 1e-9))
        pad = 0.05 * (high - low) or 1.0
        axes.set_ylim(low - pad, high + pad)


def _finite(parts: Sequence[np.ndarray]) -> np.ndarray:
    joined = np.concatenate([np.ravel(x) for x in parts] or [np.zeros(0)])
    return joined[np.isfinite(joined)]


def _ticks(axis: Any, low: float, high: float) -> None:
    """Puts plain numbers on a logarithmic axis, however short it is."""
    if high < 4 * low:
        axis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 5, 10]))
        axis.set_minor_locator(ticker.NullLocator())
    else:
        subs = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
        axis.set_major_locator(ticker.LogLocator(subs=subs, numticks=8))
    axis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())
