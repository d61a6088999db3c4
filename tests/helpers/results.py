"""Results of an evaluation that nobody ran: losses in closed form."""

import functools
import io

import numpy as np
from rich.console import Console

from common.machine import machine
from evaluation import report
from evaluation.report.summary import summary
from evaluation.runs.costs import Cost
from evaluation.runs.curves import Curves
from evaluation.runs.results import Cell, Chosen, Results, Tried
from evaluation.runs.tuning import METRICS, Choice

SEEDS, TUNING_SEEDS = (5, 6, 7), (1, 2)
STEPS, LOOKS = 40, 4
RATES = {"mine": 3.0, "adam": 1.0, "sgdm": 0.4}  # losses are (1 + rate t)^-1/2
TRIALS = [{"learning_rate": x, "schedule": "linear"} for x in (0.01, 0.1)]
TASKS = ("mlp-widthx1", "mlp-widthx2", "bowl")
BATCHES = ((4, 2_000), (64, None), (None, None))  # examples and tokens of each task
ERROR = "ValueError: need <one> loss"


def curves(rate, *, steps=STEPS, seeds=SEEDS, trials=1, labels=False):
    """Returns curves of h trials, each slower than the one before."""
    start = 1 + np.array(seeds) / 10
    rates = rate / (1 + np.arange(trials))

    def losses(at):
        return start[:, None] * (1 + rates[:, None, None] * at) ** -0.5

    looks = losses(np.linspace(0, steps, LOOKS + 1))
    right = 1 - looks / 2 if labels else np.full_like(looks, np.nan)
    return Curves(
        train=losses(np.arange(1, steps + 1)),
        valid=looks + 0.1,
        accuracy=right,
        test=looks[..., -1:] + 0.2,
        test_accuracy=right[..., -1:],
        train_accuracy=right,
    )


def cell(optimizer, task):
    """Returns what an optimizer does on a task; sgdm fails on the bowl."""
    rate, labels = RATES[optimizer], task != "bowl"
    if (optimizer, task) == ("sgdm", "bowl"):
        return Cell(optimizer, task, ERROR)
    found = curves(rate, labels=labels)
    chosen = {"default": Chosen(None, found)}
    tried = aims = None
    if optimizer != "mine":
        choice = Choice(TRIALS[1], 0.5, ("learning_rate",))
        chosen = dict.fromkeys(METRICS, Chosen(choice, found)) | chosen
        trials = curves(rate, seeds=TUNING_SEEDS, trials=len(TRIALS))
        values = {metric: of(trials) for metric, of in METRICS.items()}
        tried = Tried(TRIALS, values, trials.valid)
        aims = found.valid[0, :, :-1].min(-1)
    longer = {2: curves(rate, steps=2 * STEPS)} if optimizer == "adam" else {}
    cost = Cost(rate * 1e-3, rate * 1e-6, int(rate * 1000))
    return Cell(optimizer, task, None, chosen, tried, aims, longer, cost, 8.0)


def results():
    """Returns a candidate and two baselines on a line that grows, and on a bowl.

    The last seed of sgdm diverges half-way on the wider task.
    """
    cells = [cell(optimizer, task) for task in TASKS for optimizer in RATES]
    growth = {"line": "mlp width", "base": TASKS[0]}
    settings = {
        "suite": "toy-v1",
        "tasks": {
            task: {
                "family": task,
                "num_steps": STEPS,
                "params": 10,
                "batch": dict(zip(("examples", "tokens"), batch, strict=True)),
                "flops": 12_345,
                "growth": grown,
            }
            for task, batch, grown in zip(
                TASKS,
                BATCHES,
                (growth | {"factor": 1}, growth | {"factor": 2}, None),
                strict=True,
            )
        },
        "optimizers": {
            name: {"baseline": name != "mine", "trials": 0 if name == "mine" else 2}
            for name in RATES
        },
        "seeds": list(SEEDS),
        "tuning": {
            "protocol": "search",
            "trials": 2,
            "seeds": list(TUNING_SEEDS),
            "transfer": False,
        },
        "reference": "adam",
        "reference_lengths": [1, 2],
        "looks": LOOKS,
    }
    found = Results(
        settings=settings,
        cells=tuple(cells),
        seconds={"total": 9.0, "compile": 2.0},
        notes=("a note",),
        environment=machine(),
        made={
            "date": "2026-11-27",
            "command": "python -m evaluation '--a=b c'",
            "revision": "f00d",
        },
    )
    return diverged(found, "sgdm", "mlp-widthx2", seeds=[2])


def changed(found, optimizer, task, change):
    """Returns results with the curves of one cell replaced."""
    cells = []
    for one in found.cells:
        if (one.optimizer, one.task) == (optimizer, task):
            chosen = {
                metric: Chosen(x.choice, change(x.curves))
                for metric, x in one.chosen.items()
            }
            one = one._replace(chosen=chosen)
        cells.append(one)
    return found._replace(cells=tuple(cells))


def diverged(found, optimizer, task, *, seeds, value=np.nan):
    """Returns results with runs of one cell without finite losses half-way on."""

    def spoilt(found):
        found = Curves(*(x.copy() for x in found))
        for losses in found:
            losses[:, seeds, losses.shape[-1] // 2 :] = value
        return found

    return changed(found, optimizer, task, spoilt)


def renamed(found, names):
    """Returns results with other names of optimizers."""
    settings = found.settings | {
        "optimizers": {names[k]: v for k, v in found.settings["optimizers"].items()},
        "reference": names[found.settings["reference"]],
    }
    cells = [x._replace(optimizer=names[x.optimizer]) for x in found.cells]
    return found._replace(settings=settings, cells=tuple(cells))


def failed(found, optimizer):
    """Returns results in which an optimizer failed on every task."""
    cells = [
        Cell(x.optimizer, x.task, ERROR) if x.optimizer == optimizer else x
        for x in found.cells
    ]
    return found._replace(cells=tuple(cells))


@functools.cache
def results_summary():
    """Returns the summary of `results`, made once."""
    return summary(results())


def row(optimizer, task):
    """Returns what an optimizer does on a task, of the summary of `results`."""
    rows = results_summary().tasks[task].rows
    return next(x for x in rows if x.optimizer == optimizer)


def losses(optimizer, seed, steps=STEPS):
    """Returns training losses of a seed in closed form, smoothed as a loop."""
    mean, found = 0.0, []
    for step in range(1, steps + 1):
        raw = (1 + seed / 10) * (1 + RATES[optimizer] * step) ** -0.5
        mean = 0.9 * mean + 0.1 * raw
        found.append(mean / (1 - 0.9**step))
    return found


def shown(**options):
    """Returns the lines of `results_summary` on a console."""
    stream = io.StringIO()
    report.show(results_summary(), Console(file=stream, highlight=False, **options))
    return stream.getvalue().splitlines()


def like_adam(found, *factors):
    """Returns results in which `mine` is adam, its losses times a factor per seed."""
    scale = np.array(factors)[None, :, None]

    def copied(cell):
        own = found.cell("adam", cell.task).chosen["default"].curves
        own = own._replace(**{x: getattr(own, x) * scale for x in LOSSES})
        return cell._replace(chosen={"default": Chosen(None, own)})

    cells = [copied(x) if x.optimizer == "mine" else x for x in found.cells]
    return found._replace(cells=tuple(cells))


LOSSES = ("train", "valid", "test")


def with_adam(**fields):
    """Returns the toy evaluation with fields of one of adam's cells replaced."""
    cells = [
        x._replace(**fields) if (x.optimizer, x.task) == ("adam", TASKS[0]) else x
        for x in results().cells
    ]
    return results()._replace(cells=tuple(cells))
