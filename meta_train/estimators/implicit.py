"""Implicit meta-gradients: of theta that enters what inner runs minimise."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg

from common.names import known
from lopt.rules import PENALISED
from meta_train.estimators.base import (
    Contribution,
    Estimator,
    Theta,
    all_finite,
    concluded,
    per_worker,
    refuse_imitation,
)
from meta_train.inner.training import Inner
from meta_train.inner.worker import Worker
from tasks.base import Params


def _neumann(matrix: Callable[[Params], Params], b: Params, solver: "Solver") -> Params:
    """Returns the sum of so many terms of the Neumann series of A^-1 b."""
    rate = solver.step_size

    def step(_: jax.Array, v: Params) -> Params:
        # As descent it takes no term of its own, and mends rounding.
        rest = jax.tree.map(jnp.subtract, b, matrix(v))
        return jax.tree.map(lambda x, r: x + rate * r, v, rest)

    first = jax.tree.map(lambda x: rate * x, b)
    return jax.lax.fori_loop(1, solver.steps, step, first)


def _cg(matrix: Callable[[Params], Params], b: Params, solver: "Solver") -> Params:
    """Returns A^-1 b by conjugate gradients."""
    # Beyond rounding the residual falls on to 0, and 0 / 0 would follow.
    rounding = max(float(jnp.finfo(x.dtype).eps) for x in jax.tree.leaves(b))
    return cg(matrix, b, tol=rounding, maxiter=solver.steps)[0]


SOLVERS = {"neumann": _neumann, "cg": _cg}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solver:
    """Settings of how A v = b is solved, A = H + damping I, seen by products only.

    Attributes:
      name: "neumann", v = step_size sum_{k<steps} (I - step_size A)^k b, which falls
        short by the factor (1 - step_size lambda)^steps along an eigenvector; or "cg",
        conjugate gradients, for positive definite A only.
      steps: K >= 1; of "cg" the most, as it stops where rounding stops it.
      step_size: of "neumann", positive; it must be below 2 over the largest eigenvalue
        of A, or the sum diverges. None for "cg".
      damping: rho >= 0. It must exceed the size of the most negative eigenvalue of H,
        and turns the factor 1 / lambda into 1 / (lambda + rho).
    """

    name: str = "cg"
    steps: int = 20
    step_size: float | None = None
    damping: float = 1e-2

    def __post_init__(self) -> None:
        """Raises ValueError for a name that is not known, or a value out of range."""
        known("solver", self.name, SOLVERS)
        if not (self.steps >= 1 and self.damping >= 0):
            raise ValueError(
                "a solver needs steps >= 1 and damping >= 0, got "
                f"{self.steps} and {self.damping}."
            )
        if self.name == "neumann" and not (self.step_size and self.step_size > 0):
            raise ValueError(f"neumann needs step_size > 0, got {self.step_size}.")
        if self.name == "cg" and self.step_size is not None:
            raise ValueError(f"cg takes no step_size, got {self.step_size}; try None.")


def hypergradient(
    inner_objective: Callable[[Theta, Params], jax.Array],
    outer_objective: Callable[[Theta, Params], jax.Array],
    theta: Theta,
    params: Params,
    *,
    solver: Solver,
) -> Theta:
    """Returns dL/dtheta where params minimise an inner objective l(theta, params).

    By the implicit function theorem it is (arXiv:1911.02590, 2105.15183)

        dL/dtheta - dL/dx (H + rho I)^-1 d^2 l/(dx dtheta),  H = d^2 l/dx^2,

    whatever the way that led to params, and in memory that does not depend on its
    length. It is exact at a stationary point of l, without damping and with a solver
    that has converged; else biased. H is never formed: a step of the solver is one
    Hessian-vector product, about two gradients of l.

    Args:
      inner_objective: (theta, params) -> l, a scalar; the same one at every call, its
        batch and keys fixed.
      outer_objective: (theta, params) -> L, a scalar.
      theta: pytree of float arrays, of any shapes.
      params: pytree of float arrays, a minimum of l as nearly as may be.
      solver: of the system with H + rho I.
    """
    direct, pull = jax.grad(outer_objective, argnums=(0, 1))(theta, params)
    slope = jax.grad(inner_objective, argnums=1)
    _, curvature = jax.linearize(lambda x: slope(theta, x), params)

    def matrix(v: Params) -> Params:
        return jax.tree.map(lambda h, x: h + solver.damping * x, curvature(v), v)

    adjoint = SOLVERS[solver.name](matrix, pull, solver)

    def along(theta: Theta) -> jax.Array:
        """Returns the derivative of l in the direction of the adjoint."""
        return jax.jvp(lambda x: inner_objective(theta, x), (params,), (adjoint,))[1]

    return jax.tree.map(jnp.subtract, direct, jax.grad(along)(theta))


CG = Solver()


def implicit(*, inner: Inner, num_workers: int, solver: Solver = CG) -> Estimator:
    """Returns the hypergradient of the meta-loss, where windows of training lead to.

    The inner objective is the training loss on one batch plus the rule's penalty, the
    outer one the meta-loss on other batches. It is right as far as runs have converged
    when a window ends, and the batch stands for all data: take long windows, or long
    runs and a slow outer optimizer, and large batches. Runs end with the window in
    which they reach their horizon.

    Args:
      inner: what each worker runs, by a rule with a penalty; every window is as long as
        the longest.
      num_workers: inner runs in parallel, n.
      solver: of the system with the inner objective's Hessian.

    Raises:
      ValueError: if the rule has no penalty, naming those that have one, or for
        imitation.
    """
    refuse_imitation(inner, "an expert leads to no minimum that theta enters")
    if inner.penalty is None:
        raise ValueError(
            "implicit meta-gradients need a rule whose theta enters what is minimised; "
            f"those are: {', '.join(PENALISED)}."
        )

    def contribution(
        theta: Theta, worker: Worker, data: Any, key: jax.Array
    ) -> Contribution:
        window_key, objective_key, restart_key = jax.random.split(key, 3)
        inner_key, outer_key = jax.random.split(objective_key)
        # One that restarted here would be far from any minimum.
        after, losses = inner.unroll(theta, worker, data, window_key, inner.num_steps)

        def inner_objective(theta: Theta, params: Params) -> jax.Array:
            loss, _ = inner.loss(after._replace(params=params), data, inner_key)
            return loss + inner.penalty(theta, params)

        def outer_objective(theta: Theta, params: Params) -> jax.Array:
            return inner.meta_loss(after._replace(params=params), data, outer_key)

        scalar = outer_objective(theta, after.params)
        grad = hypergradient(
            inner_objective, outer_objective, theta, after.params, solver=solver
        )
        valid = all_finite((scalar, losses.value, grad, after.params))
        found = dict(grad=grad, losses=losses, objective=scalar, valid=valid)
        return concluded(inner, theta, after, data, restart_key, **found)

    steps = inner.num_steps
    return per_worker(
        inner.start, contribution, num_workers=num_workers, steps=steps, inner=inner
    )
