"""What the keys of a config mean: the arguments of builders, from their docstrings."""

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from common.settings import parameters
from lopt import rules, schedules
from meta_train import estimators
from meta_train.inner import options
from meta_train.inner.imitation import EXPERTS
from meta_train.sections import PLAIN
from tasks import families, suites

WIDTH = 88


def lines() -> Iterator[str]:
    """Yields a line for each key of a config: its default, type and meaning."""
    yield "Every key, `= default (type)  meaning`; a key without a default is needed."
    yield "Set any of them by `--config.section.key=value`."
    yield ""
    yield "config.seed = 0 (int)  from which all keys of a run are folded"
    for section, builder in PLAIN.items():
        yield from _section(f"config.{section}", builder)
    given = ("rule", "family")
    yield from _section("config.inner", options.inner, given=given)
    yield from _section("config.inner.schedule", schedules.build, given=("num_steps",))
    yield from _named("config.rule", rules.RULES)
    yield from _named("config.inner.imitation.expert", EXPERTS)
    yield ""
    yield "config.estimator.num_workers = 8 (int)  inner runs in parallel"
    given = ("inner", "num_workers")
    yield from _named("config.estimator", estimators.ESTIMATORS, given=given)
    yield from _named("config.family", families.FAMILIES)
    yield ""
    yield f"config.family.name may also be a suite: {', '.join(suites.SUITES)};"
    yield "  weights = {} (dict[str, float])  by which its tasks are drawn, 1 each"
    yield "A rule, family, suite, estimator, head, schedule, expert, baseline or sink"
    yield "may also be `module:attribute`."


def _named(
    where: str, table: dict[str, Callable[..., Any]], given: tuple[str, ...] = ()
) -> Iterator[str]:
    yield ""
    yield f"{where}.name: {', '.join(table)}"
    for name, builder in table.items():
        yield from _section(f"{where}.args", builder, given=given, name=name)


def _section(
    where: str,
    builder: Callable[..., Any],
    *,
    given: tuple[str, ...] = (),
    name: str = "",
) -> Iterator[str]:
    """Yields the keys of a builder, after what it makes."""
    yield ""
    first = (inspect.getdoc(builder) or "").split("\n")[0]
    which = f"{where} of {name}" if name else where
    head = f"{which}: {first} ({builder.__module__}.{builder.__qualname__})"
    yield from textwrap.wrap(head, WIDTH, subsequent_indent="    ")
    meanings = meaning(builder)
    for key, (kind, default) in parameters(builder).items():
        if key in given:
            continue
        if kind is not None:
            yield from _section(f"{where}.{key}", kind)
            continue
        annotation = inspect.signature(builder).parameters[key].annotation
        yield from _key(key, default, annotation, meanings.get(key, ""))


def _key(key: str, default: Any, annotation: Any, text: str) -> Iterator[str]:
    needed = default is inspect.Parameter.empty
    value = "" if needed else f" = {default!r}"
    kind = getattr(annotation, "__name__", None) if isinstance(annotation, type) else ""
    head = f"  {key}{value} ({kind or str(annotation).replace('typing.', '')})  "
    yield from textwrap.wrap(head + text, WIDTH, subsequent_indent=" " * 6)


def meaning(builder: Callable[..., Any]) -> dict[str, str]:
    """Returns {argument: the first sentence on it} of a docstring in Google's form.

    >>> meaning(PLAIN["log"])["every"]
    'meta-steps between looks at metrics'
    """
    text = inspect.getdoc(builder) or ""
    found = re.search(r"^(?:Args|Attributes):\n((?:  .*\n?|\n)+)", text, re.M)
    if not found:
        return {}
    entries = re.findall(r"^  (\w+): ((?:.*\n?)(?:    .*\n?)*)", found[1], re.M)
    sentences = {}
    for name, words in entries:
        whole = " ".join(words.split())
        sentences[name] = re.split(r"(?<=[a-z)`\]])[.;] ", whole)[0].rstrip(".")
    return sentences
