"""How optimizers are judged, side by side, on suites of tasks."""

from common import command_line as command_line  # ends commands that cannot run
from evaluation import report
from evaluation.protocol import evaluate
from evaluation.runs.tuning import Tuning

__all__ = ["Tuning", "evaluate", "report"]
