"""A report as Markdown: what is in it, and names that mean something there."""

import re

from results import RATES, renamed, results_summary, row
from results import results as toy

from evaluation.report.markdown import markdown
from evaluation.report.summary import summary


def test_markdown_has_standings_tasks_and_protocol():
    text = markdown(results_summary())
    assert "| final loss ratio | **0.586**<br>\\[0.586, 0.586\\] | 1.00<br>" in text
    assert text.index("diverged or failed") < text.index("<details>")
    assert text.index("<details>") < text.index("P(lower") < text.index("</details>")
    final, test = (row("mine", "bowl").metrics[m].value for m in ("final", "test"))
    assert f"| bowl | **{final:.3f}** / **{test:.3f}** | " in text
    assert "failed / failed |" in text and "ValueError: need &lt;one&gt; loss" in text
    assert "adam 2 trials × 2 seeds a task" in text
    assert "| mlp-widthx1 | 10 | 2,000 tokens in 4 examples | 200 | 1,234 |" in text


def test_rows_of_markdown_are_as_wide_as_their_heads():
    tables_ = [x for x in markdown(odd()).split("\n\n") if x.startswith("|")]
    for table in tables_:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1
    assert len(tables_) == 4


def odd():
    """Returns a summary with names that mean something to Markdown."""
    return summary(renamed(toy(), {name: f"*{name}|<b>" for name in RATES}))


def test_markdown_says_when_and_by_what_it_was_made():
    lines = markdown(results_summary()).splitlines()
    assert lines[0] == "## Optimizers on toy-v1"
    assert lines[2] == "toy-v1: 3 tasks × 3 seeds, 2026-11-27."
    assert "- By: python -m evaluation '--a=b c'" in lines
    assert any("jax" in line and "optax" in line for line in lines[-2:])
