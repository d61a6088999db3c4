"""The journal: one line a meta-step, whatever happened to the run."""

import io
import json
import math

import jax.numpy as jnp
import pytest
from rich.console import Console

from meta_train import logging, sections


def write(workdir, steps, *, after, loss=1.0, tensorboard=False):
    path = workdir / "metrics.jsonl"
    journal = logging.Journal(path, step=after, tensorboard=tensorboard)
    for step in steps:
        journal.add(step, {"loss": jnp.float32(loss), "valid": jnp.int32(4)})
    rows = journal.write()
    journal.close()
    return rows


def test_journal_has_one_line_a_meta_step(tmp_path):
    rows = write(tmp_path, [1, 2, 3], after=0, loss=0.5)
    assert rows == [{"step": s, "loss": 0.5, "valid": 4.0} for s in (1, 2, 3)]
    assert logging.read(tmp_path / "metrics.jsonl") == rows


def test_resumed_journal_drops_lines_past_its_step(tmp_path):
    write(tmp_path, range(1, 6), after=0, loss=1.0)
    write(tmp_path, range(4, 8), after=3, loss=2.0)
    rows = logging.read(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["loss"] for row in rows] == [1.0] * 3 + [2.0] * 4


def test_a_run_that_begins_anew_keeps_nothing_of_the_journal(tmp_path):
    write(tmp_path, [0], after=0)
    write(tmp_path, [0, 4], after=0)
    rows = logging.read(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 4]


def test_line_cut_short_by_a_kill_is_dropped(tmp_path):
    write(tmp_path, [1, 2], after=0)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 3, "lo')
    write(tmp_path, [3], after=2)
    lines = path.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_losses_that_are_not_finite_stay_valid_json(tmp_path, loss):
    write(tmp_path, [1], after=0, loss=loss)
    assert logging.read(tmp_path / "metrics.jsonl")[0]["loss"] is None


def test_tensorboard_is_written_only_when_asked(tmp_path):
    write(tmp_path, [1], after=0)
    assert not (tmp_path / "tensorboard").exists()
    write(tmp_path, [2], after=1, tensorboard=True)
    assert list((tmp_path / "tensorboard" / "metrics").glob("events.out.*"))


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_rate_and_remaining_time(terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120)
    with logging.Bar(total=10, step=0, console=console) as bar:
        bar.show(4, loss=0.25)
        bar.show(5, loss=0.125)
    shown = out.getvalue()
    assert "0.1250" in shown and "steps/s" in shown and "0:00:0" in shown
    assert ("\x1b" in shown) == terminal


def test_mean_passes_over_what_is_not_finite():
    rows = [{"loss": 1.0}, {"loss": math.nan}, {"loss": 3.0}]
    assert logging.mean(rows, "loss") == 2.0


def test_a_sink_takes_each_row_and_is_closed_where_it_can_be(tmp_path):
    class Sink:
        def __init__(self):
            self.rows, self.closed = [], False

        def __call__(self, row):
            self.rows.append(row)

        def close(self):
            self.closed = True

    sink = Sink()
    for takes in (sink, sink.rows.append):
        journal = logging.Journal(
            tmp_path / "metrics.jsonl", step=0, tensorboard=False, sink=takes
        )
        journal.add(1, {"loss": jnp.float32(0.5)})
        journal.write()
        journal.close()
    assert sink.closed and sink.rows == [{"step": 1, "loss": 0.5}] * 2


def test_a_sink_that_is_no_function_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match="'math:pi' is no function"):
        sections.Log(sink="math:pi")
