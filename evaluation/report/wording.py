"""What a report says of a summary in words, and how it writes numbers."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from evaluation.report.content import Summary, TaskSpeedup, Values
from evaluation.scores.budgets import Budget
from evaluation.scores.standings import Standing
from evaluation.statistics import Interval

SATURATED = 0.03  # of the loss that the last doubling of the trials took off
PROPORTION = (
    "A gradient takes about six operations for each parameter and each example or "
    "token: more where weights are shared over positions, as in convolutions, and "
    "fewer where a batch uses few of the weights, as of an embedding. An update takes "
    "a fixed number for each parameter, whatever the batch. So the last column decides "
    "what share of a step an optimizer takes."
)


def failures(summary: Summary) -> list[str]:
    """Returns a sentence for each cell that failed, and for each with diverged runs."""
    found = []
    for task, entry in summary.tasks.items():
        for row in entry.rows:
            who = f"{row.optimizer} on {task}"
            if row.error:
                found.append(f"{who} failed: {row.error}")
            elif row.diverged:
                seeds = ", ".join(map(str, row.diverged))
                plural = "s" if len(row.diverged) > 1 else ""
                found.append(f"{who} diverged: seed{plural} {seeds}")
    return found


def budget(name: str, summary: Summary) -> str:
    """Returns what an optimizer was tuned with."""
    spent = summary.budget[name]
    if not spent.trials:
        return "not tuned"
    where = "base task" if summary.settings["tuning"]["transfer"] else "task"
    return f"{spent.trials} trials × {spent.tuning_seeds} seeds a {where}"


def doubled(spent: Budget) -> str:
    """Returns what the last doubling of trials brought; "" where it is not known.

    >>> spent = Budget(4, 2, 800, 3, None, last_doubling=0.021)
    >>> doubled(spent), doubled(spent._replace(last_doubling=0.2))
    ('2 %: saturated', '20 %')
    """
    brought = spent.last_doubling
    if brought is None:
        return ""
    return f"{share(brought)}{': saturated' if brought < SATURATED else ''}"


def settings(values: Mapping[str, Any]) -> str:
    """Returns named values as text.

    >>> settings({"schedule": "linear", "learning_rate": 10 ** -1.5})
    'schedule linear, learning rate 0.0316'
    """
    texts = {
        name: f"{x:.3g}" if isinstance(x, float) else x for name, x in values.items()
    }
    return ", ".join(f"{name.replace('_', ' ')} {x}" for name, x in texts.items())


def least(standing: Standing, key: str = "speedup") -> str:
    """Returns "at least " where censored runs make a speed-up a lower bound.

    They lie at the upper end, of which interquartile means leave out a quarter.

    Args:
      standing: an optimizer's, with a number.
      key: which of its numbers; those that are no speed-ups have no such bound.
    """
    censored = {
        "speedup": standing.censored,
        "speedup_seconds": standing.censored,
        "speedup_constant": standing.censored_constant,
    }
    return "at least " if (censored.get(key) or 0) > 0.25 else ""


def leader(found: Mapping[str, Any], sign: int) -> str | None:
    """Returns whose interval lies wholly beyond all others', if anyone's does.

    So none of equal ones leads, and nobody who stands alone.

    >>> leader({"a": Interval(1.5, 1, 2), "b": Interval(2.8, 2.5, 3)}, -1)
    'a'

    Args:
      found: intervals by name; None or without bounds where there is no number.
      sign: 1 where more is better, -1 where less is.
    """
    ends = {
        name: sorted((sign * interval.low, sign * interval.high))
        for name, interval in found.items()
        if interval and interval.low is not None
    }
    for name, (low, _) in ends.items():
        others = [high for other, (_, high) in ends.items() if other != name]
        if others and low > max(others):
            return name
    return None


def scope(summary: Summary) -> str:
    """Returns what was evaluated, and on which day."""
    settings = summary.settings
    counts = f"{count(settings['tasks'], 'task')} × {count(settings['seeds'], 'seed')}"
    return ", ".join([f"{settings['suite']}: {counts}", *_date(summary)])


def made(summary: Summary) -> list[str]:
    """Returns sentences on when and by what an evaluation was made, and with what."""
    how = summary.made
    known = [f"Evaluated on {x} (UTC)." for x in _date(summary)]
    known += [f"By: {how['command']}"] if "command" in how else []
    known += [f"Code: {how['revision']}."] if how.get("revision") else []
    return [*known, f"With: {settings(summary.environment)}."]


def _date(summary: Summary) -> list[str]:
    """Returns the day, unless the evaluation is older than days are kept."""
    return [summary.made["date"]] if "date" in summary.made else []


def count(things: Collection[Any], noun: str) -> str:
    """Returns how many there are.

    >>> count([5], "task"), count([5, 6], "seed")
    ('1 task', '2 seeds')
    """
    return f"{len(things)} {noun}{'s' if len(things) != 1 else ''}"


def batch(examples: int | None, tokens: int | None) -> str:
    """Returns how much a batch holds.

    >>> batch(64, None), batch(32, 2048)
    ('64 examples', '2,048 tokens in 32 examples')
    """
    if not examples:
        return "no examples"
    held = f"{examples:,} examples"
    return f"{tokens:,} tokens in {held}" if tokens else held


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


def bounds(interval: Interval | TaskSpeedup | Values) -> str:
    """Returns an interval in brackets."""
    return f"[{number(interval.low)}, {number(interval.high)}]"
