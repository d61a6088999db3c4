"""What a worker is judged by after each step: losses, normalised and weighted."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from meta_train.inner import batches
from meta_train.inner.batches import Given
from meta_train.inner.worker import Step, Worker
from tasks.base import Task, TaskFamily


@dataclasses.dataclass(frozen=True)
class MetaLoss:
    """Normalised losses, weighted over splits; with an offset, their logarithms.

    Attributes:
      family: what is trained.
      shares: weight of each split's loss, where it is not 0.
      log_offset: c of log(c + loss), or None.
      may_lag: whether it may have the training loss that the next step shows, which
        needs no evaluation of its own; not where several runs may end in a window.
    """

    family: TaskFamily
    shares: Mapping[str, float]
    log_offset: float | None
    may_lag: bool

    def measured(
        self, worker: Worker, data: Any, given: Given, splits: Iterable[str]
    ) -> jax.Array:
        """Returns what some splits add to the meta-loss, on drawn batches."""
        task = self.family.task(worker.draw)
        losses = {s: batches.loss(task, worker, data, given, s)[0] for s in splits}
        return self.weighed(task, losses)

    def weighed(self, task: Task, losses: Mapping[str, jax.Array]) -> jax.Array:
        """Returns what a task's losses on some splits add to the meta-loss."""
        total = jnp.zeros([])
        for split, loss in losses.items():
            value = task.normalise(loss)
            if self.log_offset is not None:
                value = jnp.log(self.log_offset + value)
            total += self.shares[split] * value
        return total

    def after_step(
        self, worker: Worker, data: Any, given: Given, trained: jax.Array
    ) -> tuple[jax.Array, Any]:
        """Returns what is known of it after a step, and what training adds before it.

        Args:
          worker: after the step.
          data: of the family.
          given: what its batches are drawn by.
          trained: training loss before the step.
        """
        if not self._lags(worker):
            return self.measured(worker, data, given, self.shares), ()
        task = self.family.task(worker.draw)
        others = [s for s in self.shares if s != "train"]
        value = self.measured(worker, data, given, others)
        return value, self.weighed(task, {"train": trained})

    def completed(
        self, steps: Step, after: Worker, ended: Worker | None, data: Any, given: Given
    ) -> Step:
        """Returns steps with the training losses that the steps after them showed.

        Args:
          steps: [W] of each.
          after: worker after them.
          ended: worker as its run ended among them, if that may be.
          data: of the family.
          given: leaves [W + 1, ...], what batches are drawn by.
        """
        if not self._lags(after):
            return steps
        only = ("train",)
        last = self.measured(after, data, batches.at(given, -1), only)
        trained = jnp.append(steps.trained[1:], last)
        if ended is not None:
            at_end = batches.at(given, jnp.argmax(steps.ended) + 1)
            end = self.measured(ended, data, at_end, only)
            trained = jnp.where(steps.ended, end, trained)
        return steps._replace(value=steps.value + trained)

    def _lags(self, worker: Worker) -> bool:
        """Returns whether it has the training loss that the next step shows."""
        given = self.family.task(worker.draw).gradient is not None
        return self.may_lag and "train" in self.shares and not given
