"""Loss curves of one optimizer on one family, all seeds and hyperparameters at once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool, Float, Int

from common.names import known
from evaluation.runs import stepping
from evaluation.runs.held_out import validate
from lopt.schedules import SCHEDULES
from tasks import base
from tasks.base import Data, Draw, Params, State, TaskFamily


class Curves(NamedTuple):
    """Losses of runs; h hyperparameters, s seeds, t steps, v looks at held-out data.

    What is not finite stays so: `finite` names the runs that did not diverge. Losses
    are those of the parameters that the optimizer would have judged, such as
    Schedule-Free's average.

    Attributes:
      train: [h, s, t], L_t: the loss after update t = 1..T on the next training batch.
      valid: [h, s, v], the mean loss over the `inner_valid` split.
      accuracy: [h, s, v], share of that split classified right; NaN without logits.
      test: [h, s, 1], the mean loss over the `test` split after the last update;
        nothing is chosen by it.
      test_accuracy: [h, s, 1], of that split.
      train_accuracy: [h, s, v], of the next training batch.
    """

    train: Float[np.ndarray, "h s t"]
    valid: Float[np.ndarray, "h s v"]
    accuracy: Float[np.ndarray, "h s v"]
    test: Float[np.ndarray, "h s 1"]
    test_accuracy: Float[np.ndarray, "h s 1"]
    train_accuracy: Float[np.ndarray, "h s v"]

    @property
    def finite(self) -> Bool[np.ndarray, "h s"]:
        """[h, s], whether every loss of a run is finite, test data left out."""
        return np.isfinite(self.train).all(-1) & np.isfinite(self.valid).all(-1)

    @property
    def steps(self) -> Int[np.ndarray, " v"]:
        """[v], updates done at each look, from 0 to T."""
        return np.linspace(0, self.train.shape[-1], self.valid.shape[-1]).astype(int)

    def trial(self, index: int) -> "Curves":
        """Returns the curves of one trial, with h = 1."""
        return Curves(*(x[index : index + 1] for x in self))


Model = tuple[Params, State]  # what is trained, and what the task carries


class Track(NamedTuple):
    """Compiled functions of a family, which all optimizers share; see `track`."""

    family: TaskFamily
    valid_every: int
    start: Callable[..., Any]  # (seeds) -> draws, keys and models of s runs
    batches: Callable[..., Any]  # (draws, keys, data, step) -> batches and loss keys
    look: Callable[..., Any]  # (models, draws, keys, data, batches) -> of one look
    test: Callable[..., Any]  # (models, draws, keys, data) -> loss and accuracy


class Runner(NamedTuple):
    """Compiled functions of an optimizer on a track; see `runner`."""

    track: Track
    init: Callable[..., Any]  # (trials, hyperparameters, num_steps, models) -> state
    advance: Callable[..., Any]  # (state, hyperparameters, num_steps, draws, batches)
    shown: Callable[..., Any]  # (state) -> the models whose losses count


def track(family: TaskFamily, *, valid_every: int) -> Track:
    """Returns what optimizers on one family share: starts, batches and looks.

    Runs of equal seeds start from the same parameters and see the same batches,
    whatever the optimizer, so that their losses can be compared in pairs. Batches
    are drawn for `valid_every` steps at once, which bounds memory.
    """

    def start(seed: jax.Array) -> tuple[Draw, dict[str, jax.Array], Model]:
        draw_key, init_key, *keys = jax.random.split(jax.random.key(seed), 4)
        draw = family.sample(draw_key)
        keys = dict(zip(("train", "valid"), keys, strict=True))
        task = family.task(draw)
        return draw, keys, (task.init(init_key), task.state)

    def batches(draw: Draw, keys: Any, data: Data, step: jax.Array) -> Any:
        def drawn(now: jax.Array) -> Any:
            data_key, loss_key = jax.random.split(
                jax.random.fold_in(keys["train"], now)
            )
            return family.task(draw).batch(data, data_key, "train"), loss_key

        return jax.vmap(drawn)(step + jnp.arange(valid_every + 1))

    def look(model: Model, draw: Draw, keys: Any, data: Data, ahead: Any) -> Any:
        (params, state), task = model, family.task(draw)
        batch, loss_key = jax.tree.map(lambda x: x[0], ahead)
        train, aux = base.loss(task, params, loss_key, batch, state)
        correct = aux.get("correct", jnp.full_like(train, jnp.nan))
        valid = validate(task, params, keys["valid"], data, state, split="inner_valid")
        return train, *valid, correct

    def test(model: Model, draw: Draw, keys: Any, data: Data) -> Any:
        (params, state), task = model, family.task(draw)
        return validate(task, params, keys["valid"], data, state, split="test")

    looks = jax.vmap(look, in_axes=(0, 0, 0, None, 0))
    tests = jax.vmap(test, in_axes=(0, 0, 0, None))

    return Track(
        family=family,
        valid_every=valid_every,
        start=jax.jit(jax.vmap(start)),
        batches=jax.jit(jax.vmap(batches, in_axes=(0, 0, None, None))),
        look=_by_trial(looks),
        test=_by_trial(tests),
    )


def runner(
    track: Track,
    tx_factory: Callable[..., Any],
    *,
    traced_length: bool = True,
    eval_params: Callable[[Any, Params], Params] | None = None,
) -> Runner:
    """Returns the compiled functions of one optimizer.

    Args:
      track: shared by the optimizers that are compared.
      tx_factory: `tx_factory(num_steps=..., **hyperparameters)` -> Optax
        transformation. Hyperparameters are traced: one program serves all. Its update
        is given `stepping.offered`, what Optax's own ask for.
      traced_length: whether `num_steps` is traced too, so that one program serves all
        lengths. Optax's own schedules need a Python number.
      eval_params: (state, params) -> the parameters whose losses count, where they
        are not those that gradients are taken at.
    """
    shown = eval_params or (lambda state, params: params)

    def init(trials, hyperparameters, num_steps, model):
        def begun(trial, hyperparameters):
            del trial  # so that there is something to map without hyperparameters
            tx = tx_factory(num_steps=num_steps, **hyperparameters)
            return model, jax.vmap(tx.init)(model[0])

        return jax.vmap(begun)(trials, hyperparameters)

    def advance(state, hyperparameters, num_steps, draws, batches):
        def advanced(state, hyperparameters, draw, batches):
            tx = tx_factory(num_steps=num_steps, **hyperparameters)
            task = track.family.task(draw)
            scanned = stepping.step(
                task, optax.with_extra_args_support(tx), eval_params
            )
            return jax.lax.scan(scanned, state, jax.tree.map(lambda x: x[:-1], batches))

        seeds = jax.vmap(advanced, in_axes=(0, None, 0, 0))
        trials = jax.vmap(seeds, in_axes=(0, 0, None, None))
        return trials(state, hyperparameters, draws, batches)

    def show(state):
        (params, carried), opt_state = state
        return shown(opt_state, params), carried

    def static(position):
        return () if traced_length else position

    return Runner(
        track,
        jax.jit(init, static_argnums=static(2)),
        jax.jit(advance, static_argnums=static(2), donate_argnums=0),
        jax.jit(jax.vmap(jax.vmap(show))) if eval_params else lambda state: state[0],
    )


def run(
    runner: Runner,
    *,
    num_steps: int,
    seeds: Sequence[int],
    hyperparameters: Sequence[Mapping[str, Any]] = ({},),
) -> Curves:
    """Returns the curves of every trial of `hyperparameters` on every seed.

    Args:
      runner: an optimizer on a track.
      num_steps: T, updates per run, a multiple of the track's `valid_every`.
      seeds: s of them; a seed names the draw of the task, the start and the batches.
      hyperparameters: h dicts of the same keys, of numbers or names of schedules.

    Raises:
      ValueError: if `num_steps` is no multiple of `valid_every`.
    """
    track = runner.track
    check_length(num_steps, track.valid_every)
    draws, keys, model = track.start(np.asarray(seeds))
    values = _stack(hyperparameters)
    state = runner.init(np.arange(len(hyperparameters)), values, num_steps, model)
    family = track.family
    steps = np.arange(0, num_steps + 1, track.valid_every)
    train, looks = [], []
    for step in steps:
        data = family.stream(int(step)) if family.stream else family.data
        batches = track.batches(draws, keys, data, step)
        looks.append(track.look(runner.shown(state), draws, keys, data, batches))
        if step < num_steps:
            state, losses = runner.advance(state, values, num_steps, draws, batches)
            train.append(losses)
    test = track.test(runner.shown(state), draws, keys, data)
    now, *held_out = (_join(column) for column in zip(*looks, strict=True))
    # Each stretch has the losses before its updates: together L_0 to L_{T-1}.
    train = np.concatenate([*map(np.asarray, train), now[..., -1:]], -1)
    valid, accuracy, train_accuracy = held_out
    return Curves(
        train=train[..., 1:],
        valid=valid,
        accuracy=accuracy,
        test=_join(test[:1]),
        test_accuracy=_join(test[1:]),
        train_accuracy=train_accuracy,
    )


def joined(parts: Sequence[Curves]) -> Curves:
    """Returns the curves of trials that were run one after another."""
    return Curves(*map(np.concatenate, zip(*parts, strict=True)))


def curves(
    family: TaskFamily,
    tx_factory: Callable[..., Any],
    *,
    num_steps: int,
    seeds: Sequence[int],
    hyperparameters: Sequence[Mapping[str, Any]] = ({},),
    valid_every: int,
) -> Curves:
    """Returns the curves of one optimizer on a family, as `run` on a new `track`."""
    traced = runner(track(family, valid_every=valid_every), tx_factory)
    return run(
        traced, num_steps=num_steps, seeds=seeds, hyperparameters=hyperparameters
    )


def check_length(num_steps: int, every: int) -> None:
    """Raises ValueError unless `num_steps` is a positive multiple of `every`."""
    if num_steps < 1 or num_steps % every:
        near = max(every, num_steps - num_steps % every)
        raise ValueError(
            f"num_steps must be a multiple of valid_every, got {num_steps=} and "
            f"valid_every={every}; try num_steps={near}."
        )


def _by_trial(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function of the models of all trials, one trial after another.

    Whole splits for all trials at once could exceed memory.
    """
    return jax.jit(
        lambda models, *rest: jax.lax.map(lambda x: function(x, *rest), models)
    )


def _join(column: Sequence[jax.Array]) -> np.ndarray:
    """Returns [h, s] arrays as one [h, s, len(column)]."""
    return np.stack([np.asarray(x) for x in column], -1)


def _stack(hyperparameters: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Returns {name: [h]}; names of schedules become indices."""
    names = list(SCHEDULES)  # indices can be traced, functions cannot

    def number(value: Any) -> Any:
        if isinstance(value, str):
            return names.index(known("schedule", value, names))
        return value

    columns = {
        name: [number(h[name]) for h in hyperparameters] for name in hyperparameters[0]
    }
    return {name: np.asarray(column) for name, column in columns.items()}
