"""The page of a comparison of estimators: tables and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from common.canvas import DASHES
from meta_train import estimators

Found = Mapping[str, Any]  # of a problem, as JSON values
Row = Mapping[str, Any]  # of an estimator, as `moments.numbers` says, and its `name`
Pair = Sequence[float]  # a value and its standard error

# Distances to a target are no losses: their gradients have a scale of their own.
OTHER_SCALE = ("bootstrapped", "bootstrapped_pes")
HEADER = (
    "estimator | bias | cosine | cosine of one | variance | SNR | inner steps | ms | "
    "SNR per 1,000 steps | SNR per second"
)
COLOURS = {  # Okabe and Ito's, by the file of an estimator
    "reverse": "#0072b2",
    "evolution": "#d55e00",
    "combined": "#009e73",
    "bootstrapped": "#7a5195",
}
LOST = "?"


def write(page: Path, results: Mapping[str, Found]) -> None:
    """Writes a page and its pictures beside it, named after it.

    On a page that is there only what stands between the marks of a problem is
    renewed; problems without marks come at its end.
    """
    title = "# Meta-gradient estimators against the exact gradient\n"
    text = page.read_text(encoding="utf-8") if page.exists() else title
    for name, found in results.items():
        lines = [summary(found), "", *table(found)]
        for kind, (draw, words) in PICTURES.items():
            picture = page.with_name(f"{page.stem}-{name}-{kind}.png")
            if kind == "signal" or resolved(found):
                draw(found).savefig(picture, dpi=144)
                lines += ["", f"![{words}, on {name}]({picture.name})"]
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        block = "\n".join([begin, *lines, end])
        before, found_it, rest = text.partition(begin)
        if found_it:
            text = before + block + rest.partition(end)[2]
        else:
            text += f"\n## {name}\n\n{block}\n"
    page.write_text(text, encoding="utf-8")


def resolved(found: Found) -> bool:
    """Returns whether the exact gradient can be told from noise."""
    return _told(found["exact"])


def summary(found: Found) -> str:
    """Returns what was measured, in words."""
    start = f"of `{found['start']}`" if found["start"] else "of an untrained rule"
    norm = (
        f"of norm {found['exact'][0] ** 0.5:.3g}"
        if resolved(found)
        else "lost in noise"
    )
    return (
        f"`{found['family']}`, {found['parameters']:,} parameters; theta {start}, "
        f"{found['theta']:,} numbers; horizon {found['horizon']}, window "
        f"{found['window']}, {found['num_workers']} workers an estimate; "
        f"{found['replicas']} replicas. The exact gradient is {norm}, the mean of "
        f"{found['runs'] * found['num_workers']:,} runs. {found['hardware']}."
    )


def table(found: Found) -> list[str]:
    """Returns the lines of a table, a row for each estimator."""
    lines = [f"| {HEADER} |", f"|{'---|' * (HEADER.count('|') + 1)}"]
    for label, row in found["rows"].items():
        cells = [_root(row["bias"]), _cosine(row["cosine"])]
        cells += [f"{row['cosine_of_one']:.3f}", _short(row["variance"])]
        if not resolved(found):
            cells = [LOST] * 4
        elif row["name"] in OTHER_SCALE:
            cells[0] = cells[3] = "–"
        ratio, *rates = (_bounded(row["snr"], rate) for rate in (1, *_rates(row)))
        cells += [ratio, f"{row['steps']:,}", _short(1000 * row["seconds"]), *rates]
        lines.append(f"| {' | '.join([label, *cells])} |")
    return lines


def expected_error(row: Row, estimates: np.ndarray, *, rescaled: bool) -> np.ndarray:
    """Returns the root mean square error of a mean of estimates, over |exact|.

    A bias that cannot be told from none counts as none.

    Args:
      row: of the estimator.
      estimates: how many the mean is of, in a row as in a replica.
      rescaled: whether the mean is first multiplied by what makes the error least.
    """
    if rescaled:
        cosine, spread = row["cosine"]
        cosine = 1.0 if cosine + 2 * spread > 1 else cosine
        signal = row["snr"][0] * row["variance"] / row["in_row"] * estimates
        return np.sqrt(1 - cosine**2 * signal / (1 + signal))
    bias, spread = row["bias"]
    return np.sqrt((bias if bias > 2 * spread else 0) + row["in_row"] / estimates)


def error(found: Found) -> Figure:
    """Returns expected errors by inner steps and seconds, a line each estimator."""
    canvas = Figure(figsize=(9.6, 6.6), layout="constrained")
    axes = canvas.subplots(2, 2, sharex="col", sharey="row")
    rows = {x: row for x, row in found["rows"].items() if _told(row["snr"])}
    for (line, column), axis in np.ndenumerate(axes):
        cost = ("steps", "seconds")[column]
        end = 1e4 * np.median([row[cost] for row in rows.values()])
        for label, row in rows.items():
            if line or row["name"] not in OTHER_SCALE:
                spent = np.geomspace(row[cost], end, 99)
                errors = expected_error(row, spent / row[cost], rescaled=line == 1)
                axis.loglog(spent, errors, label=label, **_style(label, found))
        axis.set_ylim(0.02, (30, 1.2)[line])
        axis.yaxis.set_major_formatter("{x:g}")
        _plain_axis(axis)
    axes[0, 0].set_ylabel("error / |exact gradient|")
    axes[1, 0].set_ylabel("the same after the best rescaling")
    axes[1, 0].set_xlabel("inner steps")
    axes[1, 1].set_xlabel("seconds")
    handles = axes[1, 1].get_legend_handles_labels()
    canvas.legend(*handles, loc="outside right center", frameon=False, handlelength=3.2)
    return canvas


def signal(found: Found) -> Figure:
    """Returns signal-to-noise ratios by cost, and cosines; hollow: less than that."""
    rows = found["rows"]
    titles = ["SNR per 1,000 inner steps", "SNR per second", "cosine of the mean"]
    titles = titles if resolved(found) else titles[:2]
    canvas = Figure(figsize=(9.6, 1.0 + 0.25 * len(rows)), layout="constrained")
    axes = canvas.subplots(1, len(titles), sharey=True)
    for place, (label, row) in enumerate(rows.items()):
        pairs = [[x * rate for x in row["snr"]] for rate in _rates(row)]
        for axis, (value, spread) in zip(axes, [*pairs, row["cosine"]], strict=False):
            colour = _style(label, found)["color"]
            if _told((value, spread)):
                axis.errorbar(value, place, xerr=spread, fmt="o", color=colour)
            else:
                axis.plot(value + 2 * spread, place, "<", mec=colour, mfc="none")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xscale("linear" if "cosine" in title else "log")
        _plain_axis(axis)
    if resolved(found):
        axes[2].set_xlim(0, 1.25)
    axes[0].set_yticks(range(len(rows)), rows)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    return canvas


PICTURES = {
    "error": (error, "Expected error of each estimator by inner steps and seconds"),
    "signal": (signal, "Signal-to-noise ratio and cosine of each estimator"),
}


def _rates(row: Row) -> tuple[float, float]:
    """Returns estimates per 1,000 inner steps, and per second."""
    return 1000 / row["steps"], 1 / row["seconds"]


def _told(pair: Pair) -> bool:
    """Returns whether a positive value can be told from zero."""
    return pair[0] > 2 * pair[1]


def _style(label: str, found: Found) -> dict[str, Any]:
    """Returns a colour for the kind of an estimator, and a dash within it."""
    kinds = {
        x: estimators.find(row["name"]).__module__.split(".")[-1]
        for x, row in found["rows"].items()
    }
    alike = [x for x, kind in kinds.items() if kind == kinds[label]]
    dash = DASHES[alike.index(label) % len(DASHES)]
    return {"color": COLOURS.get(kinds[label], "#666666"), "ls": dash, "lw": 1.8}


def _plain_axis(axis: Any) -> None:
    axis.grid(True, color="#dddddd")
    axis.spines[["top", "right"]].set_visible(False)


def _root(square: Pair) -> str:
    """Returns the root of a square as text, or what it is below.

    >>> _root((0.25, 0.01)), _root((0.01, 0.01))
    ('0.5 ± 0.01', '< 0.173')
    """
    value, spread = square
    if not _told(square):
        return f"< {_short((max(value, 0) + 2 * spread) ** 0.5)}"
    return f"{_short(value**0.5)} ± {spread / (2 * value**0.5):.1g}"


def _cosine(pair: Pair) -> str:
    return f"{pair[0]:.3f} ± {pair[1]:.3f}" if pair[1] < 0.3 else LOST


def _bounded(pair: Pair, rate: float) -> str:
    """Returns a rate times a value as text, or what it is below."""
    value, spread = (rate * x for x in pair)
    return _short(value) if _told(pair) else f"< {_short(value + 2 * spread)}"


def _short(value: float) -> str:
    """Returns three digits, in plain notation.

    >>> _short(1234.5), _short(0.00012345)
    ('1,234', '0.000123')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{float(f'{value:.3g}'):,.7g}"
