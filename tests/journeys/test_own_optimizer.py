"""An optimizer of one's own, tuned and judged by a script outside of the repository."""

import subprocess
import sys

from evaluation.runs import results

SCRIPT = """
import optax
from evaluation import Tuning, evaluate, report
from lopt.baselines import Baseline
from lopt.baselines.spaces import Range
from tasks.suites import QUADRATIC, Entry


def build(*, num_steps, learning_rate, momentum):
    rate = optax.cosine_decay_schedule(learning_rate, num_steps)
    return optax.sgd(rate, momentum, nesterov=True)


space = {"learning_rate": Range(1e-3, 1.0), "momentum": (0.0, 0.9)}
mine = Baseline(build, space, {"learning_rate": 0.1, "momentum": 0.9})
suite = {"bowls": Entry("quadratic", QUADRATIC | {"dimension": 5}, 40)}
tuning = Tuning("narrow", trials=9, seeds=(10, 11))
found = evaluate({"mine": mine}, suite, seeds=range(6), tuning=tuning, directory="runs")
report.write(found, "report", title="Mine against Adam")
"""


def test_a_script_of_fewer_than_25_lines_tunes_and_judges_it(tmp_path):
    assert len(SCRIPT.strip().splitlines()) < 25
    (tmp_path / "judge.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "judge.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = results.load(tmp_path / "report")
    mine, adam = (found.cell(name, "bowls") for name in ("mine", "adam"))
    assert mine.error is None and adam.error is None
    assert len(mine.tried.hyperparameters) == len(adam.tried.hyperparameters) == 9
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "<title>Mine against Adam" in page
    assert "times as fast" in done.stdout
