"""One self-contained HTML page: the verdict, the tasks, the protocol."""

import importlib.resources
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup, escape

from evaluation.report import panels, pictures, tables, wording
from evaluation.report.content import Row, Summary
from evaluation.report.pictures import Picture
from evaluation.runs.results import Results
from evaluation.runs.tuning import DECAY, METRICS
from evaluation.scores.algoperf import LIMIT
from evaluation.scores.standings import REPORTED

PROTOCOLS = {
    "none": "Nothing is tuned: all run at their defaults.",
    "grid": "By a grid: every schedule at evenly spaced learning rates.",
    "narrow": "Learning rates at defaults first, under a schedule that decays; then, "
    "round by round, near what is best by then, ever closer.",
    "search": "By the first points of a scrambled Halton sequence over the whole "
    "space, the same for every task.",
}


class Section(NamedTuple):
    """A task: its pictures, its table, and what else there is of each optimizer."""

    name: str
    anchor: str
    setting: Mapping[str, Any]
    target: float | None
    pictures: list[Picture]
    table: tables.Table
    rows: list[Row]


def page(results: Results, summary: Summary) -> str:
    """Returns the page; its images are in it, and nothing is loaded from elsewhere."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "breaking": _breaking,
        "intact": _intact,
        "settings": wording.settings,
        "number": wording.number,
        "duration": wording.duration,
        "doubled": wording.doubled,
    }
    source = importlib.resources.files("evaluation") / "page.html"
    settings = summary.settings
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        s=summary,
        settings=settings,
        reference=settings["reference"],
        standings=tables.standings(summary),
        others=tables.others(summary),
        sizes=tables.sizes(summary),
        size_columns=tables.SIZES,
        proportion=wording.PROPORTION,
        scope=wording.scope(summary),
        made=wording.made(summary),
        pictures=pictures.verdict(results, summary),
        untuned=list(pictures.profiles(results, "untuned")),
        growth=pictures.growth(results, summary),
        tuning=pictures.tuning(results, summary),
        failures=wording.failures(summary),
        sections=_sections(results, summary),
        reported=REPORTED,
        metrics=METRICS,
        splits=panels.SPLITS,
        protocol=PROTOCOLS[settings["tuning"]["protocol"]],
        decay=DECAY,
        limit=LIMIT,
        high=panels.HIGH,
        saturated=wording.share(wording.SATURATED),
    )


def _breaking(name: str) -> Markup:
    """Returns a name that a narrow column breaks at an underscore."""
    return Markup(str(escape(name)).replace("_", "_<wbr>"))


def _intact(sentence: str) -> str:
    """Returns a sentence whose intervals no line breaks."""
    within = re.compile(r"\[[^\[\]]*\]")
    return within.sub(lambda x: x[0].replace(" ", "\N{NO-BREAK SPACE}"), sentence)


def _sections(results: Results, summary: Summary) -> list[Section]:
    return [
        Section(
            name=name,
            anchor=f"task-{i}",
            setting=setting,
            target=summary.tasks[name].target,
            pictures=pictures.curves(results, summary, name),
            table=tables.task(summary, name),
            rows=[x for x in summary.tasks[name].rows if not x.error],
        )
        for i, (name, setting) in enumerate(results.settings["tasks"].items())
    ]
