"""What is said of each candidate before all else, in a few sentences."""

import textwrap
from collections.abc import Iterator, Sequence

from evaluation.report.content import Summary, Verdict
from evaluation.report.wording import bounds, leader, least, number, share
from evaluation.runs.tuning import METRICS
from evaluation.scores.standings import REPORTED, Standing
from evaluation.statistics import Interval

OUTCOMES = ("better", "level", "worse", "diverged")
# Were two optimizers equal, 5 pairs of runs would agree by chance in 2 of 32 cases.
PAIRS = 6
ERROR = 200  # letters of one in a headline
RATIOS = (("final training loss", "loss_ratio"), ("test loss", "test_ratio"))
NAMED = 3  # tasks in a headline; of more, the rest is counted


def verdicts(summary: Summary) -> list[Verdict]:
    """Returns what is said of each candidate, or, without a reference, who is best.

    What failed or diverged in every run has no number, and says where and why instead.
    """
    optimizers = summary.settings["optimizers"]
    reference = summary.settings["reference"]
    named = [
        name
        for name, settings in optimizers.items()
        if not settings["baseline"] and name != reference
    ]
    if named and reference and not _failed(reference, summary):
        return [_verdict(name, summary) for name in named]
    named += [reference] if named and reference else []
    failed = [x for x in (_failed(name, summary) for name in named) if x]
    return [Verdict(x, []) for x in [*failed, _best(summary)]]


def _verdict(name: str, summary: Summary) -> Verdict:
    """Returns what a candidate is worth in the reference's terms."""
    standing, reference = summary.standings[name], summary.settings["reference"]
    if failed := _failed(name, summary):
        return Verdict(failed, [])
    if standing.speedup is None:
        return Verdict(f"{name} has a score only where {reference} has none.", [])
    losses = ", ".join(
        _ratio(title, getattr(standing, key), reference)
        for title, key in RATIOS
        if getattr(standing, key)
    )
    lost = f"{share(standing.diverged)} of runs diverged or failed."
    rest = [f"{losses[0].upper()}{losses[1:]}; {lost} {_in_seconds(standing)}"]
    if least(standing) and _level(standing.speedup):
        rest.append(f"{share(standing.censored)} of its speed-ups are lower bounds.")
    headline = f"{_told(name, summary)}{_scored(name, summary)}."
    return Verdict(headline, [*rest, *_outcomes(name, summary)])


def _told(name: str, summary: Summary) -> str:
    """Returns the speed-up, and whether it tells a candidate from the reference."""
    standing, reference = summary.standings[name], summary.settings["reference"]
    tuned = "tuned" if summary.budget[reference].trials else "untuned"
    other, interval = f"{tuned} {reference}", bounds(standing.speedup)
    value, level = number(standing.speedup.value), _level(standing.speedup)
    prefix = "" if level else least(standing)
    pairs = len(_compared(summary)) * len(summary.settings["seeds"])
    speed = f"{prefix}{value} times as fast"
    if pairs < PAIRS:
        few = f"{pairs} runs are too few to tell {name} and {other} apart in steps"
        return f"{few}: {speed} {interval}"
    if level:
        return f"{name} and {other} cannot be told apart in steps: {speed} {interval}"
    return f"{name} is {speed} in steps as {other} {interval}"


def _scored(name: str, summary: Summary) -> str:
    """Returns on how many tasks a candidate has a score, where not on all."""
    tasks = {*_compared(summary)}
    scored = tasks - _lost(name, summary).keys()
    if scored == tasks:
        return ""
    return (
        f"; it has a score on {len(scored)} of {len(tasks)} tasks, and the least "
        "speed-up and 100 times the loss count on the others"
    )


def _ratio(title: str, interval: Interval, reference: str) -> str:
    """Returns a ratio of losses, called level where its interval holds 1."""
    times = f"{number(interval.value)} times {reference}'s {bounds(interval)}"
    return f"{title} {'level, ' if _level(interval) else ''}{times}"


def _in_seconds(standing: Standing) -> str:
    speed = standing.speedup_seconds
    times = f"{number(speed.value)} times as fast {bounds(speed)}"
    if _level(speed):
        return f"In seconds they are level: {times}."
    return f"In seconds it is {least(standing)}{times}."


def _level(interval: Interval) -> bool:
    """Returns whether an interval holds 1."""
    return interval.low <= 1 <= interval.high


def _compared(summary: Summary) -> list[str]:
    """Returns the tasks that the reference was run on."""
    reference = summary.settings["reference"]
    return [
        task
        for task, entry in summary.tasks.items()
        for row in entry.rows
        if row.optimizer == reference and not row.error
    ]


def _lost(name: str, summary: Summary) -> dict[str, str]:
    """Returns {task: why} of tasks on which an optimizer has no final loss."""
    found = {}
    for task, entry in summary.tasks.items():
        (row,) = (row for row in entry.rows if row.optimizer == name)
        if row.error:
            found[task] = row.error
        elif all(x is None for x in row.metrics["final"].values):
            found[task] = ""  # diverged
    return found


def _failed(name: str, summary: Summary) -> str:
    """Returns where and why an optimizer failed that has no score at all."""
    lost, parts = _lost(name, summary), []
    if len(lost) < len(summary.tasks):
        return ""
    for why in dict.fromkeys(lost.values()):
        tasks = [task for task, x in lost.items() if x == why]
        every = len(tasks) == len(lost) > 1
        where = f"all {len(tasks)} tasks" if every else _listed(tasks)
        short = textwrap.shorten(why.rstrip("."), ERROR, placeholder=" …")
        ended = f"failed on {where} ({short})"
        parts.append(ended if why else f"diverged in every run on {where}")
    return f"{name} {_listed(parts)}."


def _listed(names: Sequence[str]) -> str:
    """Returns the first few of some names, and how many are left.

    >>> _listed(["a", "b"]), _listed(["a", "b", "c", "d", "e"])
    ('a and b', 'a, b, c and 2 more')
    """
    shown, more = list(names[:NAMED]), len(names) - NAMED
    if more > 0:
        shown.append(f"{more} more")
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def _best(summary: Summary) -> str:
    """Returns who has the lowest mean test loss, on how many tasks."""
    winners, clear = [], 0
    for entry in summary.tasks.values():
        ran = {x.optimizer: x.metrics for x in entry.rows if not x.error}
        found = {name: x["test"] for name, x in ran.items()}
        means = {k: x.value for k, x in found.items() if x.value is not None}
        first = [name for name, mean in means.items() if mean == min(means.values())]
        winners += first if len(first) == 1 else []
        clear += leader(found, -1) is not None
    counts = ", ".join(f"{x} on {winners.count(x)}" for x in dict.fromkeys(winners))
    return (
        f"Lowest in test loss: {counts or 'none'} of {len(summary.tasks)} tasks; by "
        f"more than the intervals on {clear}."
    )


def _outcomes(name: str, summary: Summary) -> Iterator[str]:
    """Yields on how many tasks a candidate is better, level, or worse."""
    comparisons = [c for c in summary.comparisons if c.candidate == name]
    parts = []
    for metric in METRICS:
        found = [c.outcome for c in comparisons if c.metric == metric]
        counts = [f"{found.count(x)} {x}" for x in OUTCOMES if x in found]
        if counts:
            parts.append(f"{REPORTED[metric].title}: {', '.join(counts)}")
    if parts:
        tasks = len(summary.tasks)
        where = f"each of {tasks} tasks" if tasks > 1 else "the task"
        yield f"Against the best baseline of {where}: {'; '.join(parts)}."
