"""Imitation: an expert that runs follow at first, and that a rule is to resemble."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from common import names, settings

TINY = 1e-18  # added to matrices: the norm of zeros has no derivative
ROOT = 1e-16  # added to Adam's second moments, whose root has none at zero either
LEAST = 1e-16  # squared norm below which an update has no direction


class Unlikeness(NamedTuple):
    """How an update differs from the expert's, and the objective apart from that.

    Attributes:
      outcome: `Losses.objective` as it is without imitation.
      direction: l_dir = 1 - cos(u_L, u_E) over all parameters together, in [0, 2].
      magnitude: l_mag, the mean over all parameters of ||u_E| - |u_L||.
    """

    outcome: jax.Array
    direction: jax.Array
    magnitude: jax.Array


def _elo() -> dict[str, Any]:
    return {"name": "elo", "args": {}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Imitation:
    """Settings of how long an expert leads (ELO, arXiv:2607.06772).

    After i windows of a worker, over all its runs and with the present one, the
    expert's lead is

        h(m) = 1 for i <= hold, then clip(1 - (i - hold) / decay, m, 1).

    From the same parameters and gradient the rule makes the update u_L and the expert
    u_E, each by its own state; parameters move by h(0) u_E + (1 - h(0)) u_L. The
    objective of theta is a weighted sum: l_dir with the weight w_d = direction
    h(floor), l_mag with the weight w_m = magnitude h(0), and the objective without
    imitation with the rest. Reverse mode differentiates through the expert too.
    Evolution strategies rescale the terms (`estimators.noise.contrasts`), so `combined`
    refuses imitation: it would mix gradients of different scales. The bootstrapped and
    implicit estimators refuse it because they have objectives of their own.

    >>> Imitation(  # ELO's own
    ...     expert={"name": "elo", "args": {}}, hold=5_000, decay=45_000,
    ...     direction=0.7, magnitude=0.3, floor=0.3,
    ... ).lead(jnp.array([5_000, 27_500, 50_000]), 0.0).tolist()
    [1.0, 0.5, 0.0]

    Attributes:
      expert: `dict(name, args)` of `EXPERTS`.
      hold: windows during which the expert alone moves parameters; ELO 5,000.
      decay: windows in which it hands over, at least 1; ELO 45,000.
      direction: the largest share of l_dir, in [0, 1]; ELO 0.7.
      magnitude: the largest share of l_mag, in [0, 1 - direction]; ELO 0.3.
      floor: what l_dir keeps of its share in the end, in [0, 1]; ELO 0.3.
    """

    expert: Mapping[str, Any] = dataclasses.field(default_factory=_elo)
    hold: int = 5_000
    decay: int = 45_000
    direction: float = 0.7
    magnitude: float = 0.3
    floor: float = 0.3

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown expert, or a value out of its range."""
        self.optimizer()
        if not (self.hold >= 0 and self.decay >= 1 and 0 <= self.floor <= 1):
            raise ValueError(
                "imitation needs hold >= 0, decay >= 1 and 0 <= floor <= 1, got "
                f"{self.hold}, {self.decay} and {self.floor}."
            )
        shares = self.direction, self.magnitude
        if not (min(shares) >= 0 and sum(shares) <= 1):
            raise ValueError(
                "imitation needs direction and magnitude of at least 0, and at most 1 "
                f"together, got {self.direction} and {self.magnitude}."
            )

    def optimizer(self) -> optax.GradientTransformation:
        """Returns the expert."""
        where = "config.inner.imitation.expert"
        return settings.named(find, where, self.expert)

    def lead(self, windows: jax.Array, least: float) -> jax.Array:
        """Returns h(least) after so many windows."""
        done = (windows - self.hold).astype(float) / self.decay
        return jnp.clip(1 - done, least, 1)

    def shares(self, windows: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns w_d and w_m after so many windows."""
        direction = self.direction * self.lead(windows, self.floor)
        return direction, self.magnitude * self.lead(windows, 0.0)

    def led(
        self, worker: Any, updates: Any, grads: Any
    ) -> tuple[Any, tuple[jax.Array, jax.Array], Any]:
        """Returns the update that is taken, l_dir and l_mag, and the expert's state.

        Args:
          worker: before the step.
          updates: the rule's.
          grads: that they are made of.
        """
        theirs, state = self.optimizer().update(grads, worker.expert, worker.params)
        mixed = self.mixed(updates, theirs, worker.windows)
        return mixed, unlikeness(updates, theirs), state

    def mixed(self, updates: Any, expert: Any, windows: jax.Array) -> Any:
        """Returns the update that parameters take, of the rule's and the expert's."""
        lead = self.lead(windows, 0.0)
        return jax.tree.map(lambda u, e: lead * e + (1 - lead) * u, updates, expert)

    def objective(self, seen: Unlikeness, windows: jax.Array) -> jax.Array:
        """Returns what theta is to lower, by reverse mode."""
        direction, magnitude = self.shares(windows)
        plain = (1 - direction - magnitude) * seen.outcome
        return plain + direction * seen.direction + magnitude * seen.magnitude


def unlikeness(updates: Any, expert: Any) -> tuple[jax.Array, jax.Array]:
    """Returns l_dir and l_mag of an update and the expert's, pytrees alike."""
    (ours, _), (theirs, _) = ravel_pytree(updates), ravel_pytree(expert)
    cosine = optax.losses.cosine_similarity(ours, theirs, epsilon=LEAST)
    return 1 - cosine, jnp.mean(jnp.abs(jnp.abs(theirs) - jnp.abs(ours)))


def elo() -> optax.GradientTransformation:
    """Returns ELO's expert: Muon for matrices, AdamW for the rest.

    Muon (2-D leaves [fan_in, fan_out]) has decay 0.99 and Nesterov's momentum, its bias
    corrected, and is multiplied by sqrt(max(1, fan_out / fan_in)). AdamW has 0.3 of the
    rate and Optax's other defaults. The rate falls by a cosine from 1e-2 to 1e-4 over
    the first 10,000 steps of a run, whatever its horizon.
    """
    rate = optax.cosine_decay_schedule(1e-2, 10_000, alpha=1e-2)
    nonzero = optax.stateless(lambda g, _: jax.tree.map(lambda x: x + TINY, g))
    experts = {
        "matrix": optax.chain(nonzero, optax.contrib.muon(rate, beta=0.99)),
        # Not Muon's own fallback, to which it gives Nesterov's momentum too.
        "rest": optax.adamw(lambda count: 0.3 * rate(count), eps_root=ROOT),
    }

    def labels(params: Any) -> Any:
        return jax.tree.map(lambda x: "matrix" if x.ndim == 2 else "rest", params)

    return optax.partition(experts, labels)


def adam(*, learning_rate: float = 1e-3) -> optax.GradientTransformation:
    """Returns Adam (arXiv:1412.6980) at a constant rate, > 0."""
    return optax.adam(_positive(learning_rate), eps_root=ROOT)


def adamw(
    *, learning_rate: float = 1e-3, weight_decay: float = 1e-2
) -> optax.GradientTransformation:
    """Returns AdamW (arXiv:1711.05101) at a constant rate, > 0, and decay."""
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay must be at least 0, got {weight_decay=}.")
    return optax.adamw(
        _positive(learning_rate), eps_root=ROOT, weight_decay=weight_decay
    )


def _positive(learning_rate: float) -> float:
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be positive, got {learning_rate=}.")
    return learning_rate


EXPERTS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "elo": elo,
    "adam": adam,
    "adamw": adamw,
}


def find(name: str) -> Callable[..., optax.GradientTransformation]:
    """Returns the builder of an expert, of `EXPERTS` or `module:attribute`.

    Raises:
      ValueError: for an unknown name, listing the known ones.
    """
    return names.find("expert", name, EXPERTS, "GradientTransformation")
