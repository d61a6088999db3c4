"""What a report says of an evaluation, as values; JSON only where it is written."""

from typing import Any, NamedTuple

from evaluation.runs.costs import Cost
from evaluation.runs.tuning import Choice
from evaluation.scores.budgets import Budget
from evaluation.scores.standings import Standing
from evaluation.statistics import Interval


class Verdict(NamedTuple):
    """What is said of a candidate before all else.

    Attributes:
      headline: one sentence.
      rest: shorter ones.
    """

    headline: str
    rest: list[str]


class Values(NamedTuple):
    """A metric of an optimizer on a task: mean, interval, and each seed's value."""

    value: float | None
    low: float | None
    high: float | None
    values: list[float | None]


class TaskSpeedup(NamedTuple):
    """The geometric mean of a speed-up, and how many seeds of it are lower bounds."""

    value: float | None
    low: float | None
    high: float | None
    censored: int


class Row(NamedTuple):
    """An optimizer on a task; one that failed has an error and nothing else.

    Attributes:
      optimizer: its name.
      baseline: whether it is a baseline of the house.
      error: why there is nothing else, or None.
      metrics: of `REPORTED`.
      diverged: seeds whose runs diverged.
      choices: {metric of `METRICS`: what was chosen for it, or None where not tuned}.
      speedup: over the reference, or None.
      cost: of a step.
      state_bytes: per parameter.
    """

    optimizer: str
    baseline: bool
    error: str | None
    metrics: dict[str, Values] = {}
    diverged: list[int] = []
    choices: dict[str, Choice | None] = {}
    speedup: TaskSpeedup | None = None
    cost: Cost | None = None
    state_bytes: float | None = None


class Task(NamedTuple):
    """A task: AlgoPerf's target on it, if there is one, and a row an optimizer."""

    target: float | None
    rows: list[Row]


class Comparison(NamedTuple):
    """A candidate against the baseline that does best on a task, by one metric."""

    candidate: str
    baseline: str
    task: str
    metric: str
    difference: Interval
    outcome: str


class Control(NamedTuple):
    """An untuned candidate against a baseline that was tuned in the same seconds."""

    candidate: str
    baseline: str
    trials: float
    loss_ratio: Interval


class Summary(NamedTuple):
    """All numbers of an evaluation but the curves; not finite ones are None.

    Attributes:
      verdict: what is said of each candidate before all else.
      title: of the report.
      metrics: {metric: what it is, in words}.
      standings: {optimizer: how it does over all tasks}.
      tasks: by name.
      comparisons: of candidates with the best baseline of each task.
      control: of untuned candidates with tuned baselines.
      settings: as in `Results`.
      budget: {optimizer: what its tuning cost}.
      seconds: as in `Results`, and so on.
    """

    verdict: list[Verdict]
    title: str
    metrics: dict[str, str]
    standings: dict[str, Standing]
    tasks: dict[str, Task]
    comparisons: list[Comparison]
    control: list[Control]
    settings: dict[str, Any]
    budget: dict[str, Budget]
    seconds: dict[str, float]
    notes: list[str]
    environment: dict[str, Any]
    made: dict[str, str]


def plain(value: Any) -> Any:
    """Returns a summary, or a part of one, as JSON values."""
    if isinstance(value, Row) and value.error:
        value = {name: getattr(value, name) for name in Row._fields[:3]}
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: plain(x) for key, x in value.items()}
    return [plain(x) for x in value] if isinstance(value, list | tuple) else value
