"""Trains networks as users make them with released rules, beside Adam and AdamW.

    python -m benchmarks.networks --optimizers=mu_mlp,adamw --steps=300 --warmup=0,0.1

Prints a table: how far the loss rises above that at init, and where it ends.
`--draw=FILE.png` draws the curves.
"""

import argparse
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes

import lopt
from benchmarks import models
from common import canvas
from evaluation.report import style
from lopt.baselines import BASELINES

HAND_DESIGNED = {"adam": optax.adam, "adamw": optax.adamw}
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)  # of these; the best final loss is shown
TAIL = 0.1  # share of the run whose mean loss is the final one
POINTS = 60  # of a curve that is drawn, each a mean
# (a warm-up or a rate, updates that will be done) -> an optimizer
Make = Callable[[Any, Any], optax.GradientTransformation]


class Row(NamedTuple):
    """Losses of one optimizer on one network.

    Attributes:
      network: a name in `models.NETWORKS`.
      optimizer: its name, and its warm-up or rate.
      losses: [seeds, steps + 1], before each update and after the last.
    """

    network: str
    optimizer: str
    losses: np.ndarray


def curves(
    network: models.Network,
    tx: optax.GradientTransformation,
    num_steps: int,
    seeds: Sequence[int],
) -> np.ndarray:
    """Returns losses [seeds, num_steps + 1], each on a batch before its update."""
    run = runner(network, lambda value, steps: tx, num_steps)
    return run([0.0], seeds, num_steps)[0]


def runner(network: models.Network, make: Make, longest: int) -> Callable[..., Any]:
    """Returns (values, seeds, num_steps) -> losses [values, seeds, num_steps + 1].

    All lengths up to `longest` share one compiled program, as do all values.
    """

    def trial(value: Any, seed: Any, num_steps: Any) -> jax.Array:
        init_key, batch_key = jax.random.split(jax.random.key(seed))
        tx = make(value, num_steps)
        params = network.init(init_key)

        def step(count: Any, carry: Any) -> Any:
            params, state, losses = carry
            batch = network.batch(jax.random.fold_in(batch_key, count))
            loss, grads = jax.value_and_grad(network.loss)(params, batch)
            updates, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, updates)
            return params, state, losses.at[count].set(loss)

        start = params, tx.init(params), jnp.full([longest + 1], jnp.nan)
        params, _, losses = jax.lax.fori_loop(0, num_steps, step, start)
        batch = network.batch(jax.random.fold_in(batch_key, num_steps))
        return losses.at[num_steps].set(network.loss(params, batch))

    @jax.jit
    def program(values: Any, seeds: Any, num_steps: Any) -> jax.Array:
        # Not `vmap`, which makes grouped convolutions, many times as slow on CPUs.
        return jax.lax.map(lambda pair: trial(*pair, num_steps), (values, seeds))

    def run(values: Sequence[float], seeds: Sequence[int], num_steps: int) -> Any:
        pairs = np.meshgrid(np.float32(values), np.int32(seeds), indexing="ij")
        losses = np.asarray(program(*(x.ravel() for x in pairs), num_steps))
        return losses.reshape(*pairs[0].shape, -1)[..., : num_steps + 1]

    return run


def warmed(rule: str, warmup: Any, num_steps: Any) -> optax.GradientTransformation:
    """Returns a released rule, updates multiplied by min(1, (t + 1)/(warmup T))."""
    steps = jnp.maximum(warmup * num_steps, 1e-9)
    ramp = optax.scale_by_schedule(lambda count: jnp.minimum(1, (count + 1) / steps))
    return optax.chain(lopt.load(rule, num_steps=num_steps), ramp)


def final(losses: np.ndarray) -> float:
    """Returns the mean of the last tenth, over seeds; infinite if it is NaN."""
    tail = losses[:, -max(1, round(TAIL * losses.shape[1])) :]
    return float(np.nan_to_num(tail.mean(), nan=np.inf))


def rise(losses: np.ndarray) -> float:
    """Returns the greatest loss of a run over the one at init, of the worst seed."""
    ratios = np.nan_to_num(losses / losses[:, :1], nan=np.inf)
    return float(ratios.max())


def rows(
    name: str,
    optimizers: Sequence[str],
    *,
    steps: Sequence[int],
    warmups: Sequence[float],
    seeds: Sequence[int],
) -> Iterator[Row]:
    """Yields the rows of one network: rules with each warm-up, others at their best."""
    network = models.build(name)
    for optimizer in optimizers:
        built = HAND_DESIGNED.get(optimizer)
        make: Make = functools.partial(warmed, optimizer)
        if built:
            make = lambda rate, num_steps, built=built: built(rate)  # noqa: E731
        run = runner(network, make, max(steps))
        values = RATES if built else warmups
        for num_steps in steps:
            found = run(values, seeds, num_steps)
            pairs = list(zip(values, found, strict=True))
            if built:
                pairs = [min(pairs, key=lambda pair: final(pair[1]))]
            for value, losses in pairs:
                yield Row(name, f"{optimizer} {value:g}", losses)


def line(row: Row) -> str:
    """Returns a row of the table."""
    start = row.losses[:, 0].mean()
    cells = (
        row.network,
        row.optimizer,
        str(row.losses.shape[1] - 1),
        f"{start:.2f}",
        f"{rise(row.losses):.3g}",
        f"{final(row.losses):.4g}",
    )
    return f"| {' | '.join(cells)} |"


HEAD = """| network | optimizer, warm-up or rate | steps | init | max/init | final |
|---|---|---|---|---|---|"""


def draw(found: Sequence[Row], path: Path) -> None:
    """Writes a panel a network, of the mean of seeds."""
    names = list(dict.fromkeys(row.network for row in found))
    panels = [_panel([row for row in found if row.network == x]) for x in names]
    columns = min(4, len(names))
    rows = [panels[n : n + columns] for n in range(0, len(panels), columns)]
    path.write_bytes(canvas.png(rows, height=4.2 if columns == 1 else 3))


def _panel(found: Sequence[Row]) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        labels = [row.optimizer for row in found]
        rules = {x: {"baseline": x.split()[0] in BASELINES} for x in labels}
        looks = style.styles(rules, canvas.LIGHT)
        for row in found:
            losses = row.losses.mean(0)
            blocks = np.array_split(losses, min(POINTS, len(losses)))
            ends = np.cumsum([len(block) for block in blocks])
            look = looks[row.optimizer] | {"markevery": 0.15}
            axes.plot(ends, [x.mean() for x in blocks], label=row.optimizer, **look)
        axes.set(title=found[0].network, yscale="log", xlabel="updates", ylabel="loss")
        axes.yaxis.set_major_formatter("{x:g}")

    return draw


def _numbers(kind: type) -> Callable[[str], list[Any]]:
    return lambda text: [kind(x) for x in text.split(",")]


def main(args: Sequence[str] | None = None) -> None:
    """Prints the table as its rows come, and draws it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names, released = _numbers(str), ",".join((*lopt.released(), "adamw"))
    parser.add_argument("--optimizers", type=names, default=released.split(","))
    parser.add_argument("--networks", type=names, default=list(models.NETWORKS))
    parser.add_argument("--steps", type=_numbers(int), default=[300])
    parser.add_argument("--warmup", type=_numbers(float), default=[0.0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--draw", type=Path)
    options = parser.parse_args(args)
    print(HEAD, flush=True)
    found = []
    for name in options.networks:
        for row in rows(
            name,
            options.optimizers,
            steps=options.steps,
            warmups=options.warmup,
            seeds=range(options.seeds),
        ):
            found.append(row)
            print(line(row), flush=True)
    if options.draw:
        draw(found, options.draw)


if __name__ == "__main__":
    main()
