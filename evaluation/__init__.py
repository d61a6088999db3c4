"""How optimizers are judged, side by side, on suites of tasks."""

from evaluation import report
from evaluation.protocol import evaluate
from evaluation.tuning import Tuning

__all__ = ["Tuning", "evaluate", "report"]
