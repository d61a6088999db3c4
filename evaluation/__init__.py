"""How optimizers are judged, side by side, on suites of tasks."""

import tasks as tasks  # first, as it ends commands that cannot run
from evaluation import report
from evaluation.protocol import evaluate
from evaluation.tuning import Tuning

__all__ = ["Tuning", "evaluate", "report"]
