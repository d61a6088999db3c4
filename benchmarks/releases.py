"""Writes what cards of released rules say of their evaluations into a page's table.

    python -m benchmarks.releases docs/releases.md

The page keeps its text; a test compares the table with the cards.
"""

import argparse
import re
from pathlib import Path
from typing import Any

import lopt
from evaluation.words import bounds, least, number

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


def rows(suite: str, found: dict[str, Any], name: str) -> list[str]:
    """Returns a row each of a rule on a suite and of what it is measured against."""
    lines, both = [], dict.fromkeys((name, found["reference"]))
    for one in both:
        standing, trials = found["standings"][one], found["trials"][one]
        cells = [suite, one, f"{trials} trials" if trials else "none"]
        for key in ("speedup", "speedup_seconds", "loss_ratio", "test_ratio"):
            interval = standing[key]
            prefix = least(standing) if key == "speedup" else ""
            cells.append(f"{prefix}{number(interval['value'])} {bounds(interval)}")
        cells.append(f"{standing['diverged']:.0%}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def table(names: list[str]) -> str:
    """Returns all that the cards of some released rules hold."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for name in names:
        for suite, found in (lopt.read(name).card["evaluation"] or {}).items():
            lines += rows(suite, found, name)
    return "\n".join(lines)


def renewed(page: str) -> str:
    """Returns a page with the first table anew, of all rules but the demo's."""
    names = [name for name in lopt.released() if name != "demo"]
    return re.sub(r"^\|.*(\n\|.*)*", table(names), page, count=1, flags=re.M)


def main() -> None:
    """Renews the table of a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    page = parser.parse_args().page
    page.write_text(renewed(page.read_text()))


if __name__ == "__main__":
    main()
