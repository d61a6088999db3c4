"""The picture of a run's meta-losses, a panel for each family."""

import json

import numpy as np
import pytest

from meta_train import plot


def journal(directory):
    """Writes 100 meta-steps of two families that take turns; one gets better."""
    rows = [
        {
            "step": step,
            "loss": 1.0,
            "loss/a": 1 - step / 100 if step % 2 else None,
            "loss/b": None if step % 2 else 2.0,
        }
        for step in range(1, 101)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (directory / "metrics.jsonl").write_text(text)
    (directory / "validation.jsonl").write_text("")


def test_each_family_has_its_own_curve_and_the_command_draws_them(tmp_path, capsys):
    journal(tmp_path)
    plot.main([str(tmp_path)])
    said = capsys.readouterr().out.splitlines()
    # 50 points, smoothed by twos: the first are meta-steps 1 and 3.
    assert said[1:] == ["a: 0.9800 -> 0.0200", "b: 2.0000 -> 2.0000"]
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")


def test_meta_validation_is_drawn_where_there_is_any(tmp_path, capsys):
    journal(tmp_path)
    rows = [{"step": 0, "a": 1.0, "b": 0.5}, {"step": 50, "a": None, "b": 0.25}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "validation.jsonl").write_text(text)
    plot.main([str(tmp_path)])
    assert capsys.readouterr().out == "a: 1.0000 -> 1.0000\nb: 0.5000 -> 0.2500\n"


def test_a_family_that_always_diverged_is_left_out(tmp_path, capsys):
    journal(tmp_path)
    rows = [{"step": step, "a": 1.0, "b": None} for step in (0, 50)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "validation.jsonl").write_text(text)
    plot.main([str(tmp_path)])
    assert capsys.readouterr().out == "a: 1.0000 -> 1.0000\n"


def test_a_run_without_a_row_yet_is_an_error_of_one_line(tmp_path):
    for file in ("metrics.jsonl", "validation.jsonl"):
        (tmp_path / file).write_text("")
    with pytest.raises(SystemExit, match="error: .* has no losses yet"):
        plot.main([str(tmp_path)])


def test_a_directory_without_a_run_is_an_error_of_one_line(tmp_path):
    with pytest.raises(SystemExit, match="error: .* is not the work directory"):
        plot.main([str(tmp_path)])


def test_smoothing_keeps_the_mean():
    steps, losses = plot._smoothed(np.arange(100.0), np.sin(np.arange(100.0)))
    assert len(steps) == 20
    np.testing.assert_allclose(losses.mean(), np.sin(np.arange(100.0)).mean())
