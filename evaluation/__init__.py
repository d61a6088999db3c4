"""How optimizers are judged, side by side, on families of tasks."""

from evaluation import entrants, report
from evaluation.protocol import evaluate

__all__ = ["entrants", "evaluate", "report"]
