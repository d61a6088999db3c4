"""Measures where bootstrapped gradients beat truncated ones: on a learned SGD.

    python benchmarks/bootstrapping.py

Two meta-parameters, the logarithm of the rate and the decay of momentum, are learned on
noisy ill-conditioned quadratics, where a short window prefers steps that are too small
(arXiv:1803.02021). Each method takes the same number of inner steps, from five seeds,
at the best of three outer learning rates: that of the least median of the losses along
the way of a sixth seed. Its loss is the mean over whole runs of seeds of their own.
Results go into `docs/bootstrapping.json` and the table and plot of
`docs/bootstrapping.md`.
"""

import json
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes

from common import canvas
from common.canvas import LIGHT
from lopt.types import LearnedOptimizer
from meta_train import estimators, learner
from meta_train.build import worker_mesh
from meta_train.inner import options
from meta_train.inner.training import Inner
from tasks import families

DOCS = pathlib.Path(__file__).parent.parent / "docs"
SEEDS, TUNING_SEED, OUTER_RATES = range(5), 100, (1e-2, 3e-2, 1e-1)
HORIZON, WORKERS = 200, 8
INNER_STEPS, LOOKS = 192_000, 40
UNITS = {"inner_steps": "inner steps", "seconds": "seconds"}
LEFT = {"inner_steps": 4_000, "seconds": 0.003}  # ends of the axes
LEAST = "bootstrapped, W=5, 10 by SGD at 0.5"  # drawn thicker than the others
FAMILY = {
    "dimension": 10,
    "condition": (1e3, 1e3),
    "noise": (0.1, 0.1),
    "spectrum": "geometric",
    "rotation": False,
}


def target(rule_steps: int, baseline_steps: int, rate: float = 0.5) -> dict[str, Any]:
    """Returns the arguments of a bootstrapped estimator that matches parameters."""
    return {
        "matching": "parameters",
        "reuse": False,
        "target": {
            "rule_steps": rule_steps,
            "baseline_steps": baseline_steps,
            "baseline": "sgd",
            "learning_rate": rate,
        },
    }


METHODS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "truncated, W=1": ("truncated", 1, {}),
    "truncated, W=5": ("truncated", 5, {}),
    "truncated, W=20": ("truncated", 20, {}),
    "truncated, W=100": ("truncated", 100, {}),
    "bootstrapped, W=1, 10 by SGD at 0.5": ("bootstrapped", 1, target(0, 10)),
    "bootstrapped, W=5, 10 by SGD at 0.1": ("bootstrapped", 5, target(0, 10, 0.1)),
    "bootstrapped, W=5, 10 by SGD at 0.5": ("bootstrapped", 5, target(0, 10)),
    "bootstrapped, W=5, 10 by SGD at 1": ("bootstrapped", 5, target(0, 10, 1.0)),
    "bootstrapped, W=5, 5 by the rule, 5 by SGD": ("bootstrapped", 5, target(5, 5)),
    "bootstrapped, W=5, 9 by the rule, 1 by SGD": ("bootstrapped", 5, target(9, 1)),
}


def sgdm() -> LearnedOptimizer:
    """Returns SGD with momentum, whose theta is {log_rate, momentum}."""

    def bind(theta: Any, *, num_steps: Any = None) -> optax.GradientTransformation:
        def update(grads: Any, state: Any, params: Any = None, **extra: Any) -> Any:
            state = jax.tree.map(lambda m, g: theta["momentum"] * m + g, state, grads)
            rate = jnp.exp(theta["log_rate"])
            return jax.tree.map(lambda m: -rate * m, state), state

        zeros = lambda params: jax.tree.map(jnp.zeros_like, params)  # noqa: E731
        return optax.GradientTransformationExtraArgs(zeros, update)

    first = {"log_rate": jnp.log(0.1), "momentum": jnp.float32(0.5)}
    return LearnedOptimizer(lambda key: first, bind)


def inner(window: int) -> Inner:
    """Returns inner training of the quadratics."""
    return options.inner(
        rule=sgdm(),
        family=families.build("quadratic", **FAMILY),
        window=window,
        horizon=(HORIZON, HORIZON),
        growth=0,
        reduce="mean",
        valid_weight=0.0,
        log_offset=None,
        schedule=None,
        stagger=True,
        fresh=1.0,
        imitation=None,
    )


@jax.jit
def score(theta: Any) -> jax.Array:
    """Returns the mean loss of 512 whole runs, none of which was trained on."""
    runs = inner(1)

    def objective(seed: jax.Array) -> jax.Array:
        start_key, run_key = jax.random.split(jax.random.key(seed))
        worker = runs.fresh(theta, (), start_key, jnp.int32(0))
        return runs.run(theta, worker, (), run_key)[1].objective.mean()

    return jax.vmap(objective)(10_000 + jnp.arange(512)).mean()


def trained(method: str, seed: int, outer_rate: float) -> list[dict[str, float]]:
    """Returns the losses of a run by inner steps and by seconds without compiling."""
    name, window, args = METHODS[method]
    estimator = estimators.build(name, inner=inner(window), num_workers=WORKERS, **args)
    learn = learner.build(
        rule=sgdm(),
        estimator=estimator,
        outer=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(outer_rate)),
        average=0.99,
        seed=seed,
        mesh=worker_mesh(),
    )
    state, _ = learn.step(learn.init(()), ())
    state, seconds, rows = learn.init(()), 0.0, []
    count = INNER_STEPS // estimator.steps
    for look in range(LOOKS + 1):
        began = time.monotonic()
        for _ in range(count * look // LOOKS - count * max(0, look - 1) // LOOKS):
            state, _ = learn.step(state, ())
        jax.block_until_ready(state)
        seconds += time.monotonic() - began
        loss = float(score(state.average))
        steps = int(state.step) * estimator.steps
        rows.append({"inner_steps": steps, "seconds": seconds, "loss": loss})
    return rows


def measured(method: str) -> dict[str, Any]:
    """Returns the outer rate that served best, and the rows of every seed with it."""

    def middle(rate: float) -> float:
        losses = [row["loss"] for row in trained(method, TUNING_SEED, rate)]
        return float(np.median(losses)) if np.isfinite(losses).all() else np.inf

    rate = min(OUTER_RATES, key=middle)
    runs = [trained(method, seed, rate) for seed in SEEDS]
    ends = ", ".join(f"{rows[-1]['loss']:.4f}" for rows in runs)
    print(f"{method}, outer rate {rate}: {ends}", flush=True)
    return {"outer_rate": rate, "runs": runs}


def interval(values: np.ndarray) -> str:
    """Returns the mean of five values and its 95 % interval by Student's t."""
    if not np.isfinite(values).all():
        return "diverged"
    half = 2.776 * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():.4f} ± {half:.4f}"


def at(rows: list[dict[str, float]], unit: str, limit: float) -> float:
    """Returns the loss of the last look within a budget."""
    return [row["loss"] for row in rows if row[unit] <= limit][-1]


def table(found: dict[str, dict[str, Any]]) -> str:
    """Returns the losses at equal inner steps and at equal seconds, in Markdown.

    Both after what all methods had, and after a quarter of it.
    """
    most = {
        unit: min(rows[-1][unit] for entry in found.values() for rows in entry["runs"])
        for unit in ("inner_steps", "seconds")
    }
    limits = [(unit, share * most[unit]) for unit in most for share in (0.25, 1)]
    units = {"inner_steps": "{:,.0f} inner steps", "seconds": "{:.2f} s"}
    heads = [units[unit].format(limit) for unit, limit in limits]
    lines = [f"| | outer rate | {' | '.join(heads)} |", "|---" * 6 + "|"]
    for method, entry in found.items():
        cells = [
            interval(np.array([at(rows, unit, limit) for rows in entry["runs"]]))
            for unit, limit in limits
        ]
        lines.append(f"| {method} | {entry['outer_rate']:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def panel(found: dict[str, dict[str, Any]], unit: str) -> Any:
    """Returns a panel of the medians of losses over seeds, in bands of all of them.

    Methods that diverged have no line.
    """

    def draw(axes: Axes) -> None:
        ended = {
            method: measured
            for method, measured in found.items()
            if all(np.isfinite(rows[-1]["loss"]) for rows in measured["runs"])
        }
        for i, (method, measured) in enumerate(ended.items()):
            x, y = (
                np.array([[row[name] for row in rows] for rows in measured["runs"]])
                for name in (unit, "loss")
            )
            truncated = method.startswith("truncated")
            look = {
                "color": (LIGHT.baselines if truncated else LIGHT.candidates)[i % 5],
                "ls": canvas.DASHES[i % len(canvas.DASHES)],
                "lw": 1.4 if truncated else 3.0 if method == LEAST else 2.0,
            }
            axes.plot(x.mean(0), np.median(y, 0), label=method, **look)
            band = {"alpha": 0.12, "color": look["color"], "lw": 0}
            axes.fill_between(x.mean(0), y.min(0), y.max(0), **band)
        axes.set(title=f"by {UNITS[unit]}", xlabel=UNITS[unit], xscale="log")
        axes.set(ylabel="loss over whole runs", ylim=(0.027, 0.06))
        axes.set_xlim(left=LEFT[unit])
        axes.xaxis.set_major_formatter("{x:g}")

    return draw


def plot(found: dict[str, dict[str, Any]]) -> bytes:
    """Returns, as PNG, losses by inner steps and by seconds."""
    return canvas.png([[panel(found, unit) for unit in UNITS]], height=4.6)


def main() -> None:
    """Measures every method, writes the numbers and plot, and prints the table."""
    found = {method: measured(method) for method in METHODS}
    (DOCS / "bootstrapping.json").write_text(json.dumps(found) + "\n", encoding="utf-8")
    (DOCS / "bootstrapping.png").write_bytes(plot(found))
    print(table(found))


if __name__ == "__main__":
    main()
