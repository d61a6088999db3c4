"""Where runs are made: each once, by chunks that fit, and kept with what it is of."""

import collections
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from common import machine
from evaluation.runs import curves
from evaluation.runs.costs import Cost, cost
from evaluation.runs.curves import Curves
from evaluation.runs.entrants import Contender
from evaluation.runs.fingerprints import arrays_hash, program
from evaluation.runs.store import Store, key_of
from tasks import base
from tasks.base import TaskFamily
from tasks.costs import flops

LANES = 2**25  # parameters of all runs of a chunk together
WORK = 2.0**42  # operations of a chunk: minutes, as one that is stopped is lost
SPEED = 2e9  # operations a second, before any was measured
Say = Callable[[str], None]


class Place(NamedTuple):
    """A task that optimizers are run on.

    Attributes:
      name: of the task.
      track: its compiled functions.
      num_steps: updates of a run.
      program: hash of what the task computes, and of its data.
      params: number of parameters.
      flops: floating-point operations of a step.
    """

    name: str
    track: curves.Track
    num_steps: int
    program: str
    params: int
    flops: int


class Stand(NamedTuple):
    """An optimizer at a place, ready to run."""

    contender: Contender
    runner: curves.Runner
    place: Place
    program: str


def place(name: str, family: TaskFamily, *, num_steps: int, looks: int) -> Place:
    """Returns a place with `looks` looks at held-out data, beside that at the start."""
    track = curves.track(family, valid_every=num_steps // looks)

    def computed(seeds: Any, data: Any) -> Any:
        draws, keys, models = track.start(seeds)
        ahead = track.batches(draws, keys, data, 0)
        trial = jax.tree.map(lambda x: x[None], models)
        looks = track.look(trial, draws, keys, data, ahead)
        return looks, track.test(trial, draws, keys, data), gradient(seeds, data)

    def gradient(seeds: Any, data: Any) -> Any:
        draws, keys, models = track.start(seeds)
        ahead = track.batches(draws, keys, data, 0)
        draw, (params, state) = jax.tree.map(lambda x: x[0], (draws, models))
        batch, key = jax.tree.map(lambda x: x[0, 0], ahead)
        return base.gradient(family.task(draw), params, key, batch, state)

    seeds = np.zeros(1, int)
    hashes = (
        program(computed, seeds, family.data),
        arrays_hash(family.data),
    )
    params = sum(math.prod(x.shape) for x in jax.tree.leaves(family.shapes))
    work = flops(gradient, seeds, family.data)
    return Place(name, track, num_steps, "-".join(hashes), params, work)


def stand(contender: Contender, program: str, place: Place) -> Stand:
    """Returns an optimizer at a place."""
    runner = curves.runner(
        place.track,
        contender.factory,
        traced_length=contender.traced_length,
        eval_params=contender.eval_params,
    )
    return Stand(contender, runner, place, program)


class Bench:
    """Makes runs that the store does not have."""

    def __init__(self, store: Store) -> None:
        """Begins with nothing made."""
        self.store, self.made = store, 0
        self.versions = {
            "jax": jax.__version__,
            "device": jax.devices()[0].device_kind,
        }

    def run(
        self,
        stand: Stand,
        *,
        num_steps: int,
        seeds: Sequence[int],
        hyperparameters: Sequence[Mapping[str, Any]],
    ) -> Curves:
        """Returns the curves of every trial on every seed.

        Chunks are the same whether the process was killed before or not, so that
        runs made after it are, to the bit, what they would have been.
        """
        whats = {
            (h, s): self._what(stand, num_steps, chosen, seed)
            for (h, chosen), (s, seed) in itertools.product(
                enumerate(hyperparameters), enumerate(seeds)
            )
        }
        keys = {at: key_of(what) for at, what in whats.items()}
        found = self.store.get(whats.values())
        for some, lacking in _rectangles(
            [at for at, key in keys.items() if key not in found],
            _chunk(stand.place, num_steps, len(hyperparameters), len(seeds)),
        ):
            made = curves.run(
                stand.runner,
                num_steps=num_steps,
                seeds=[seeds[s] for s in lacking],
                hyperparameters=[hyperparameters[h] for h in some],
            )
            new = {
                (h, s): {name: x[i, j] for name, x in made._asdict().items()}
                for (i, h), (j, s) in itertools.product(
                    enumerate(some), enumerate(lacking)
                )
            }
            self.store.put((whats[at], arrays) for at, arrays in new.items())
            self.made += len(new)
            found |= {keys[at]: arrays for at, arrays in new.items()}
        shape = len(hyperparameters), len(seeds), -1
        return Curves(
            *(
                np.stack([found[key][name] for key in keys.values()]).reshape(shape)
                for name in Curves._fields
            )
        )

    def cost(self, stand: Stand, hyperparameters: Mapping[str, Any]) -> Cost:
        """Returns what a step costs, as measured when it was first asked for."""
        place = stand.place
        # Seconds are of this machine alone.
        what = self._what(stand, place.num_steps, hyperparameters, None)
        what = what | {"machine": machine.machine()}
        found = self.store.get([what])
        if not found:
            chosen = dict(hyperparameters)
            measured = cost(
                place.track,
                stand.contender,
                num_steps=place.num_steps,
                hyperparameters=chosen,
            )
            self.store.put(
                [(what, {k: np.array(x) for k, x in measured._asdict().items()})]
            )
            found = self.store.get([what])
        (arrays,) = found.values()
        return Cost(**{name: x.item() for name, x in arrays.items()})

    def _what(
        self,
        stand: Stand,
        num_steps: int,
        hyperparameters: Mapping[str, Any],
        seed: int | None,
    ) -> dict[str, Any]:
        """Returns what makes a run what it is; without a seed, what makes its cost."""
        return {
            "optimizer": stand.program,
            "hyperparameters": dict(hyperparameters),
            "task": stand.place.program,
            "num_steps": num_steps,
            "seed": None if seed is None else int(seed),
            **self.versions,
        }


class Progress:
    """Says how far an evaluation is, and about how long the rest takes."""

    def __init__(self, works: Sequence[float], say: Say) -> None:
        """Takes the work of each cell, in any unit, in order."""
        self.works, self.say, self.done = list(works), say, 0
        self.seconds, self.worked = 0.0, 0.0

    def begin(self, what: str) -> str:
        """Returns what the next cell is, and about how long it takes."""
        speed = self.worked / self.seconds if self.worked else SPEED
        seconds = _duration(self.works[self.done] / speed)
        return (
            f"{what}: compiling and running, about {seconds}; "
            f"{self.done + 1} of {len(self.works)}"
        )

    def cell(self, what: str, seconds: float, fresh: bool) -> None:
        """Says that a cell is done; its time counts if runs were made for it."""
        work = self.works[self.done]
        self.done += 1
        if fresh:
            self.seconds, self.worked = self.seconds + seconds, self.worked + work
        left = sum(self.works[self.done :])
        rest = ""
        if left and self.worked:
            rest = f", about {_duration(self.seconds / self.worked * left)} left"
        took = f"{seconds:.1f} s" if fresh else "kept from before"
        self.say(f"{what}: {took}; {self.done} of {len(self.works)}{rest}")


def _rectangles(
    missing: Sequence[tuple[int, int]], per_chunk: int
) -> Iterator[tuple[list[int], tuple[int, ...]]]:
    """Yields trials and seeds that cover all (trial, seed) missing, each once.

    >>> list(_rectangles([(0, 0), (0, 1), (1, 0), (1, 1), (2, 1)], 1))
    [([0], (0, 1)), ([1], (0, 1)), ([2], (1,))]
    """
    seeds_of = collections.defaultdict(list)
    for trial, seed in missing:
        seeds_of[trial].append(seed)
    alike = collections.defaultdict(list)
    for trial, seeds in seeds_of.items():
        alike[tuple(seeds)].append(trial)
    for seeds, some in alike.items():
        for start in range(0, len(some), per_chunk):
            yield some[start : start + per_chunk], seeds


def _chunk(place: Place, num_steps: int, number: int, seeds: int) -> int:
    """Returns how many of a number of trials run at once, chunks being level.

    >>> sizes = (2**20, 2**30), (2**30, 1), (10, 2**38), (10, 1)
    >>> [_chunk(Place("", None, 1, "", *x), 1, 20, 4) for x in sizes]
    [7, 1, 4, 20]
    """
    work = place.flops * num_steps
    fit = max(1, int(min(LANES / place.params, WORK / max(work, 1)) // seeds))
    return math.ceil(number / math.ceil(number / fit))


def _duration(seconds: float) -> str:
    """Returns seconds or minutes as text.

    >>> _duration(59.6), _duration(600)
    ('60 s', '10 min')
    """
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
