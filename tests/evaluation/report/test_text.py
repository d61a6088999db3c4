"""Tables off a terminal: aligned columns, as wide as a page at most."""

import re

from results import RATES, shown

from evaluation.report import text


def test_off_a_terminal_there_are_aligned_columns_a_row_for_each_optimizer():
    lines = shown(width=40)
    assert lines[0].split("  ")[0] == "optimizer"
    places = [lines[0].index(x) for x in ("speed-up in steps", "final loss ratio")]
    for name, line in zip(RATES, lines[1:4], strict=True):
        assert line.startswith(f"{name} ")
        assert all(line[x - 2 : x] == "  " and line[x] != " " for x in places)
    assert lines[1][places[0] :].startswith("≥ 2.00 [2.00, 2.00] 100 % censored")
    assert max(map(len, lines[:9])) <= text.WIDTH
    assert not re.search("[\x1b─│]", "\n".join(lines))


def test_what_does_not_fit_beside_follows_below_with_all_names():
    lines = shown(width=40)
    blank = lines.index("")
    assert [x.split()[0] for x in lines[blank + 1 : blank + 5]] == [
        "optimizer",
        *RATES,
    ]
    assert "2 trials × 2 seeds a task" in lines[blank + 3]
