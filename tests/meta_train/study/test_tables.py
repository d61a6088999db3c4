"""The page of a comparison: expected errors, and what of it is renewed."""

import numpy as np

from meta_train.study import tables


def row(**changes):
    """Returns an estimator's row."""
    plain = dict(name="pes", bias=(0.25, 0.01), cosine=(0.6, 0.01), snr=(0.5, 0.1))
    costs = dict(variance=2.0, in_row=4.0, cosine_of_one=0.1, steps=10, seconds=0.1)
    return plain | costs | changes


def test_expected_error_is_bias_and_what_is_left_of_the_variance():
    many = np.array([1, 100, 10**9])
    plain = tables.expected_error(row(), many, rescaled=False)
    np.testing.assert_allclose(plain, np.sqrt([4.25, 0.29, 0.25]))
    # The least of |c m - g|^2 + c^2 V: with |m|^2 / V = .25 estimates, m . g = .6 |m|.
    signal = 0.25 * many
    best = tables.expected_error(row(), many, rescaled=True)
    np.testing.assert_allclose(best, np.sqrt(1 - 0.36 * signal / (1 + signal)))
    unknown = tables.expected_error(row(bias=(0.01, 0.01)), many, rescaled=False)
    np.testing.assert_allclose(unknown, 2 / np.sqrt(many))


def problem(**changes):
    """Returns what is found on a problem."""
    sizes = dict(parameters=27, theta=921, window=5, horizon=20, num_workers=64)
    words = dict(family="toy", start=None, hardware="a machine", code_revision="f00")
    found = {"exact": (1.0, 0.1), "runs": 10, "replicas": 9, "rows": {"pes": row()}}
    return sizes | words | found | changes


def test_page_is_renewed_between_its_marks_only(tmp_path):
    page = tmp_path / "page.md"
    tables.write(page, {"toy": problem()})
    assert "| pes | 0.5 ± 0.01 | 0.600 ± 0.010 | 0.100 | 2 | 0.5 |" in page.read_text()
    page.write_text("Before.\n" + page.read_text() + "After.\n")
    rows = {"pes": row(bias=(0.0, 0.01)), "mine": row(name="bootstrapped")}
    tables.write(page, {"toy": problem(rows=rows)})
    text = page.read_text()
    assert text.startswith("Before.\n") and text.endswith("After.\n")
    assert "| pes | < 0.141 |" in text and "| mine | – |" in text
    assert "0.5 ± 0.01" not in text and text.count("![") == 2
    assert (tmp_path / "page-toy-error.png").exists()


def test_nothing_is_compared_to_a_gradient_that_is_lost_in_noise(tmp_path):
    tables.write(tmp_path / "page.md", {"toy": problem(exact=(1.0, 0.6))})
    assert "| pes | ? | ? | ? | ? | 0.5 |" in (tmp_path / "page.md").read_text()
    assert not (tmp_path / "page-toy-error.png").exists()
