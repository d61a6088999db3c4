"""Ranges and choices as points of the unit cube, against NumPy and by hand."""

import numpy as np
import pytest

from lopt.baselines.spaces import Range, point

# A range, and what NumPy makes of a grid of 7.
GRIDS = [
    (Range(1e-4, 3.0), np.geomspace(1e-4, 3.0, 7)),
    (Range(-1.0, 2.0, "linear"), np.linspace(-1, 2, 7)),
    (Range(0.9, 0.9999, "complement"), 1 - np.geomspace(0.1, 1e-4, 7)),
    (Range(0.0, 0.99, "complement"), 1 - np.geomspace(1.0, 0.01, 7)),
    (Range(0.1, 0.1), np.full(7, 0.1)),
]


@pytest.mark.parametrize(("space", "expected"), GRIDS)
def test_grids_are_even_on_their_scale_and_exact_at_their_ends(space, expected):
    grid = space.grid(7)
    np.testing.assert_allclose(grid, expected, rtol=1e-12, atol=1e-15)
    assert (grid[0], grid[-1]) == (space.low, space.high)
    assert all(type(x) is float for x in grid)


@pytest.mark.parametrize(("space", "expected"), GRIDS)
def test_a_grid_of_one_is_the_middle(space, expected):
    assert space.grid(1) == (space.at(0.5),)
    np.testing.assert_allclose(space.at(0.5), expected[3], rtol=1e-12)


@pytest.mark.parametrize("space", [space for space, _ in GRIDS])
def test_every_point_is_within_the_range(space):
    values = [space.at(u) for u in np.random.default_rng(0).uniform(size=1000)]
    assert space.low <= min(values) and max(values) <= space.high
    order = [space.at(u) for u in np.linspace(0, 1, 1000)]
    assert order == sorted(order)


SPACE = {"rate": Range(1.0, 100.0), "schedule": ("a", "b", "c"), "b1": (0.9,)}


@pytest.mark.parametrize(
    ("u", "expected"),
    [
        ([0.0, 0.0, 0.0], (1.0, "a", 0.9)),
        ([0.5, 0.33, 0.5], (10.0, "a", 0.9)),
        ([1.0, 0.34, 0.99], (100.0, "b", 0.9)),
        ([1, 0.67, 1], (100.0, "c", 0.9)),
        (np.array([1.0, 1.0, 1.0]), (100.0, "c", 0.9)),
    ],
)
def test_choices_share_the_unit_interval_evenly(u, expected):
    found = point(SPACE, u)
    assert list(found) == list(SPACE)
    assert tuple(found.values()) == (pytest.approx(expected[0]), *expected[1:])


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Range(0.0, 1.0), "low > 0"),
        (Range(0.5, 1.0, "complement"), "high < 1"),
        (Range(2.0, 1.0), "low <= high"),
        (Range(float("nan"), 1.0), "finite"),
        (Range(0.0, float("inf"), "linear"), "finite"),
        (Range(0.1, 1.0, "logarithmic"), "known: log, linear, complement"),
    ],
)
def test_ranges_that_cannot_be_are_errors(space, message):
    with pytest.raises(ValueError, match=message):
        space.at(0.5)


@pytest.mark.parametrize("u", [-0.1, 1.1, float("nan")])
def test_coordinates_outside_of_the_cube_are_errors(u):
    for name in SPACE:
        with pytest.raises(ValueError, match=r"in \[0, 1\]"):
            point({name: SPACE[name]}, [u])


def test_a_grid_of_none_other_counts_and_no_choices_are_errors():
    with pytest.raises(ValueError, match="n >= 1"):
        Range(0.1, 1.0).grid(0)
    with pytest.raises(ValueError, match="each of rate, schedule, b1; got 2"):
        point(SPACE, [0.1, 0.2])
    with pytest.raises(ValueError, match="'x' has no choices"):
        point({"x": ()}, [0.1])
