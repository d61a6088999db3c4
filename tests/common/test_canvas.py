"""Themes of pictures, by the contrast that the web asks for, and legends."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from common import canvas
from common.canvas import DARK, LIGHT


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_lines_stand_out_from_the_ground(theme):
    for colour in (theme.ink, *theme.candidates, *theme.baselines):
        assert contrast(colour, theme.ground) >= 3  # WCAG 2.1, 1.4.11


def contrast(*colours):
    """Returns the contrast ratio of WCAG 2.1."""
    lights = []
    for colour in colours:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [
            x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts
        ]
        lights.append(np.dot([0.2126, 0.7152, 0.0722], linear) + 0.05)
    return max(lights) / min(lights)


def drawn(names):
    """Returns a figure of two panels with a line of each name, and a legend below."""
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    for axes in figure.subplots(1, 2):
        for name in names:
            axes.plot([0, 1], label=name)
    canvas.legend(figure)
    return figure


def test_a_legend_names_every_line_once():
    (legend,) = drawn(["a", "b"]).legends
    assert [x.get_text() for x in legend.get_texts()] == ["a", "b"]
    assert not drawn([]).legends


@pytest.mark.parametrize(("count", "rows"), [(2, 1), (12, 1), (13, 2), (40, 4)])
def test_every_further_row_of_a_legend_makes_the_figure_higher(count, rows):
    figure = drawn([f"{i:02}" for i in range(count)])
    # Of 691 points each name of two letters takes 54.
    assert figure.get_figheight() == pytest.approx(3.4 + 0.17 * (rows - 1))
