"""The picture of a run's meta-losses, a panel for each family."""

import json

import numpy as np

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


def test_each_family_has_its_own_curve_and_the_command_draws_them(tmp_path, capsys):
    journal(tmp_path)
    plot.main([str(tmp_path)])
    said = capsys.readouterr().out.splitlines()
    # 50 points, smoothed by twos: the first are meta-steps 1 and 3.
    assert said[1:] == ["a: 0.9800 -> 0.0200", "b: 2.0000 -> 2.0000"]
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")


def test_smoothing_keeps_the_mean():
    steps, losses = plot._smoothed(np.arange(100.0), np.sin(np.arange(100.0)))
    assert len(steps) == 20
    np.testing.assert_allclose(losses.mean(), np.sin(np.arange(100.0)).mean())
