"""Bootstrapped meta-gradients (arXiv:2109.04504): match a target further on."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from common.names import find, known
from meta_train.estimators.base import (
    Contribution,
    Estimator,
    Theta,
    all_finite,
    concluded,
    pairwise,
    per_worker,
    refuse_imitation,
    total,
)
from meta_train.estimators.noise import NOISE, Noise, moved, stacked
from meta_train.inner.training import Inner
from meta_train.inner.worker import Worker, where

LED = "runs that an expert leads end where theta has no say"
BASELINES = {"sgd": optax.sgd, "adam": optax.adam}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """Settings of where a bootstrapped target lies, seen from x_W.

    Without a last step by a baseline a rule that does nothing would match its target.
    The baseline descends the training loss and that on `outer_valid` in the shares that
    they have in the meta-loss; neither is normalised, nor its logarithm taken.

    Attributes:
      rule_steps: steps by the rule at first, L - 1 >= 0.
      baseline_steps: steps by the baseline after them, at least 1; all are, for a
        target by the baseline alone.
      baseline: "sgd" or "adam", with a state that starts at x_W or after the rule; or
        `module:attribute` of a function of the learning rate that is annotated
        `-> optax.GradientTransformation`.
      learning_rate: of the baseline, positive.
    """

    rule_steps: int = 0
    baseline_steps: int = 80
    baseline: str = "adam"
    learning_rate: float = 5e-3

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown baseline, or a value out of its range."""
        if not (self.rule_steps >= 0 and self.baseline_steps >= 1):
            raise ValueError(
                "need rule_steps >= 0 and baseline_steps >= 1, got "
                f"{self.rule_steps} and {self.baseline_steps}."
            )
        if not self.learning_rate > 0:
            raise ValueError(f"need learning_rate > 0, got {self.learning_rate}.")
        self.build()

    def build(self) -> optax.GradientTransformation:
        """Returns the baseline."""
        kinds = ("GradientTransformation", "GradientTransformationExtraArgs")
        found = find("baseline", self.baseline, BASELINES, *kinds)
        return found(self.learning_rate)

    @property
    def steps(self) -> int:
        """Returns how many steps it takes to get there."""
        return self.rule_steps + self.baseline_steps


ADAM = Target()


def bootstrapped(
    *,
    inner: Inner,
    num_workers: int,
    matching: str = "kl",
    target: Target = ADAM,
    reuse: bool = False,
) -> Estimator:
    """Returns the gradient of the distance from x_W to a target, by reverse mode.

    The target is a constant; memory grows with the window only. Runs end with the
    window in which they reach their horizon. `reduce` and `log_offset` of inner
    training are of losses, and have no say.

    Args:
      inner: what each worker runs; every window is as long as the longest.
      num_workers: inner runs in parallel, n.
      matching: "parameters" (squared distance) or "kl" (target || candidate, between
        predictions on one batch; the task's aux must hold logits).
      target: where it lies.
      reuse: whether runs go on from where the rule came to on its way to the target,
        rather than from x_W; those steps are then not taken twice.

    Raises:
      ValueError: for an unknown matching, or imitation.
    """
    refuse_imitation(inner, LED)
    distance = MATCHINGS[known("matching", matching, MATCHINGS)]

    def contribution(
        theta: Theta, worker: Worker, data: Any, key: jax.Array
    ) -> Contribution:
        window_key, objective_key, restart_key = jax.random.split(key, 3)
        target_key, match_key = jax.random.split(objective_key)

        def value(theta: Theta) -> tuple[jax.Array, tuple]:
            # A run that restarted here would end where theta had no say.
            after, losses = inner.unroll(
                theta, worker, data, window_key, inner.num_steps
            )
            still, start = jax.lax.stop_gradient((theta, after))
            further, goal = _target(inner, target, still, start, data, target_key)
            scalar = distance(inner, goal, after, data, match_key)
            return scalar, (further if reuse else start, losses)

        (scalar, aux), grad = jax.value_and_grad(value, has_aux=True)(theta)
        after, losses = aux
        valid = all_finite((scalar, losses.value, grad, after.params))
        found = dict(grad=grad, losses=losses, objective=scalar, valid=valid)
        return concluded(inner, theta, after, data, restart_key, **found)

    steps = inner.num_steps + target.steps
    return per_worker(
        inner.start, contribution, num_workers=num_workers, steps=steps, inner=inner
    )


class MatchingState(NamedTuple):
    """What matching by PES keeps; every leaf has the workers as leading axis.

    Attributes:
      worker: leaves [n, ...], the run along theta itself, which makes the targets.
      pair: leaves [n, 2, ...], the runs at perturbed thetas, which are to match.
      score: leaves [n, ...], the sum of the scores since the pair left the run.
      windows: [n], the windows since then.
    """

    worker: Worker
    pair: Worker
    score: Theta
    windows: jax.Array


def bootstrapped_pes(
    *,
    inner: Inner,
    num_workers: int,
    matching: str = "kl",
    target: Target = ADAM,
    span: int = 4,
    noise: Noise = NOISE,
) -> Estimator:
    """Returns the gradient of distances to bootstrapped targets, by PES.

    A pair leaves the run along theta, is matched with its targets at the end of each of
    the next `span` windows, and then starts from it again. So it estimates the gradient
    through up to `span` windows, whatever their length, and keeps nothing to
    differentiate. Runs end with the window in which they reach their horizon.

    Args:
      inner: what each worker runs; every window is as long as the longest.
      num_workers: pairs in parallel, n.
      matching: as in `bootstrapped`.
      target: where it lies, seen from the run along theta.
      span: windows from one start of a pair to the next, at least 1.
      noise: perturbs theta, anew in each window.

    Raises:
      ValueError: for an unknown matching, no span, or imitation.
    """
    refuse_imitation(inner, LED)
    distance = MATCHINGS[known("matching", matching, MATCHINGS)]
    if not span >= 1:
        raise ValueError(f"span must be at least 1, got {span=}.")

    def start(theta: Theta, data: Any, key: jax.Array) -> MatchingState:
        return _parted(theta, inner.start(theta, data, key))

    def contribution(
        theta: Theta, state: MatchingState, data: Any, key: jax.Array
    ) -> Contribution:
        noise_key, window_key, target_key, match_key, restart_key = jax.random.split(
            key, 5
        )
        kick = noise.draw(noise_key, theta)
        score = jax.tree.map(jnp.add, state.score, kick.score)

        def unroll(theta: Theta, worker: Worker, salt: Any) -> tuple[Worker, Any]:
            return inner.unroll(theta, worker, data, window_key, inner.num_steps, salt)

        run = pairwise(unroll, in_axes=(0, 0, 0))
        pair, _ = run(moved(theta, kick), state.pair, noise.salts())
        worker, losses = unroll(theta, state.worker, None)
        _, goal = _target(inner, target, theta, worker, data, target_key)
        distances = jax.vmap(lambda x: distance(inner, goal, x, data, match_key))(pair)
        difference = noise.differences(distances)
        grad = jax.tree.map(lambda s: s * difference, score)
        valid = all_finite((losses.value, distances, grad, pair.params, worker.params))
        worker, restarted = inner.restart(theta, worker, data, restart_key, ~valid)
        after = MatchingState(worker, pair, score, state.windows + 1)
        again = restarted | (after.windows == span)
        after = where(again, _parted(theta, worker), after)
        return Contribution(
            grad, losses, distances.mean(), valid, valid & restarted, after
        )

    steps = 3 * inner.num_steps + target.steps
    return per_worker(
        start, contribution, num_workers=num_workers, steps=steps, inner=inner
    )


def _parted(theta: Theta, worker: Worker) -> MatchingState:
    """Returns a pair that has just left the run."""
    nothing = jax.tree.map(jnp.zeros_like, theta)
    return MatchingState(worker, stacked(worker, worker), nothing, jnp.int32(0))


def _target(
    inner: Inner, target: Target, theta: Theta, worker: Worker, data: Any, key: Any
) -> tuple[Worker, Worker]:
    """Returns the worker where the rule leaves it, and the target."""
    rule_key, last_key = jax.random.split(key)
    if target.rule_steps:
        after, _ = inner.unroll(theta, worker, data, rule_key, target.rule_steps)
        worker = after._replace(windows=worker.windows)  # these are not a window
    baseline = target.build()

    def step(carry: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], None]:
        params, state = carry

        def loss(params: Any) -> jax.Array:
            at = worker._replace(params=params)
            shares = inner.shares.items()
            return sum(w * inner.loss(at, data, key, split)[0] for split, w in shares)

        updates, state = baseline.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(last_key, target.baseline_steps)
    start = (worker.params, baseline.init(worker.params))
    (params, _), _ = jax.lax.scan(step, start, keys)
    return worker, worker._replace(params=params)


def _squared_distance(
    inner: Inner, goal: Worker, candidate: Worker, data: Any, key: jax.Array
) -> jax.Array:
    del inner, data, key
    return total(
        jax.tree.map(lambda a, b: jnp.square(a - b), goal.params, candidate.params)
    )


def _kl(
    inner: Inner, goal: Worker, candidate: Worker, data: Any, key: jax.Array
) -> jax.Array:
    """Returns KL(goal || candidate) of predictions, the mean over a batch."""
    aux = [inner.loss(w, data, key)[1] for w in (goal, candidate)]
    if "logits" not in aux[0]:
        raise ValueError(
            "this task has no logits, which matching='kl' compares; try 'parameters'."
        )
    log_p, log_q = (jax.nn.log_softmax(x["logits"]) for x in aux)
    return jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1))


MATCHINGS: dict[str, Callable[..., jax.Array]] = {
    "parameters": _squared_distance,
    "kl": _kl,
}
