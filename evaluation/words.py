"""What a report says of a summary in words, and how it writes numbers."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from evaluation.standings import REPORTED
from evaluation.tuning import METRICS

Summary = Mapping[str, Any]
OUTCOMES = ("better", "level", "worse", "diverged")


class Verdict(NamedTuple):
    """What is said of a candidate before all else.

    Attributes:
      headline: one sentence.
      rest: shorter ones.
    """

    headline: str
    rest: list[str]


def verdicts(summary: Summary) -> list[Verdict]:
    """Returns what is said of each candidate, or, of baselines alone, who is best."""
    optimizers = summary["settings"]["optimizers"]
    candidates = [name for name, of in optimizers.items() if not of["baseline"]]
    if not candidates or summary["standings"][candidates[0]]["speedup"] is None:
        return [Verdict(_best(summary), [])]
    return [_verdict(name, summary) for name in candidates]


def failures(summary: Summary) -> list[str]:
    """Returns a sentence for each cell that failed, and for each with diverged runs."""
    found = []
    for task, of in summary["tasks"].items():
        for row in of["rows"]:
            who = f"{row['optimizer']} on {task}"
            if row["error"]:
                found.append(f"{who} failed: {row['error']}")
            elif row["diverged"]:
                seeds = ", ".join(map(str, row["diverged"]))
                plural = "s" if len(row["diverged"]) > 1 else ""
                found.append(f"{who} diverged: seed{plural} {seeds}")
    return found


def budget(name: str, summary: Summary) -> str:
    """Returns what an optimizer was tuned with."""
    spent = summary["budget"][name]
    if not spent["trials"]:
        return "not tuned"
    where = "base task" if summary["settings"]["tuning"]["transfer"] else "task"
    return f"{spent['trials']} trials × {spent['tuning_seeds']} seeds a {where}"


def settings(values: Mapping[str, Any]) -> str:
    """Returns named values as text.

    >>> settings({"schedule": "linear", "learning_rate": 10 ** -1.5})
    'schedule linear, learning rate 0.0316'
    """
    texts = {
        name: f"{x:.3g}" if isinstance(x, float) else x for name, x in values.items()
    }
    return ", ".join(f"{name.replace('_', ' ')} {x}" for name, x in texts.items())


def least(one: Mapping[str, Any]) -> str:
    """Returns "at least " where censored runs make a speed-up a lower bound.

    They lie at the upper end, of which interquartile means leave out a quarter.
    """
    return "at least " if one["censored"] > 0.25 else ""


def number(value: float) -> str:
    """Returns three significant digits, in plain notation where that is short.

    >>> number(0.0096001), number(12.0), number(1.5e-7)
    ('0.00960', '12.0', '1.50e-07')
    """
    if value == 0 or not 1e-4 <= abs(value) < 1e4:
        return f"{value:.2e}" if value else "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def share(value: float) -> str:
    """Returns a share in percent; with a decimal where whole ones would hide it.

    >>> share(0.25), share(0.004), share(0.0)
    ('25 %', '0.4 %', '0 %')
    """
    digits = 1 if 0 < value < 0.01 or 0.99 < value < 1 else 0
    return f"{100 * value:.{digits}f} %"


def duration(seconds: float) -> str:
    """Returns a time of a step.

    >>> duration(3.2e-6), duration(0.0456)
    ('3.20\\xa0µs', '45.6\\xa0ms')
    """
    scale, unit = (1e6, "µs") if seconds < 1e-3 else (1e3, "ms")
    return f"{number(seconds * scale)}\N{NO-BREAK SPACE}{unit}"


def bounds(one: Mapping[str, float]) -> str:
    """Returns an interval in brackets."""
    return f"[{number(one['low'])}, {number(one['high'])}]"


def _verdict(name: str, summary: Summary) -> Verdict:
    """Returns what a candidate is worth in the reference's terms."""
    one, reference = summary["standings"][name], summary["settings"]["reference"]
    tuned = "tuned" if summary["budget"][reference]["trials"] else "untuned"
    headline = (
        f"{name} is {least(one)}{number(one['speedup']['value'])} times as fast in "
        f"steps as {tuned} {reference} {bounds(one['speedup'])}."
    )
    final, test = (
        f"{number(one[key]['value'])} {bounds(one[key])}"
        for key in ("loss_ratio", "test_ratio")
    )
    ratios = (
        f"Final training loss {final} times, test loss {test} times {reference}'s; "
        f"{share(one['diverged'])} of runs diverged or failed. In seconds it is "
        f"{number(one['speedup_seconds']['value'])} {bounds(one['speedup_seconds'])} "
        f"times as fast."
    )
    return Verdict(headline, [ratios, *_outcomes(name, summary)])


def _best(summary: Summary) -> str:
    """Returns who has the lowest mean test loss, on how many tasks."""
    winners = []
    for of in summary["tasks"].values():
        means = {
            row["optimizer"]: row["metrics"]["test"]["value"]
            for row in of["rows"]
            if not row["error"]
        }
        known = {name: mean for name, mean in means.items() if mean is not None}
        winners += [min(known, key=known.get)] if known else []
    counts = ", ".join(f"{x} on {winners.count(x)}" for x in dict.fromkeys(winners))
    return f"Lowest in test loss: {counts or 'none'} of {len(summary['tasks'])} tasks."


def _outcomes(name: str, summary: Summary) -> Iterator[str]:
    """Yields on how many tasks a candidate is better, level, or worse."""
    own = [c for c in summary["comparisons"] if c["candidate"] == name]
    parts = []
    for metric in METRICS:
        found = [c["outcome"] for c in own if c["metric"] == metric]
        counts = [f"{found.count(x)} {x}" for x in OUTCOMES if x in found]
        if counts:
            parts.append(f"{REPORTED[metric].title}: {', '.join(counts)}")
    if parts:
        yield (
            f"Against the best baseline of each of {len(summary['tasks'])} tasks: "
            f"{'; '.join(parts)}."
        )
