"""Takes the first meta-steps of an artifact's run again, and compares their losses.

    python -m meta_train.reproduce mu_mlp

In the root of a checkout, as a stage may start from an artifact beside its recipe.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import jax

import lopt
from meta_train.run import Run, build
from tasks import commands


def first_difference(run: Run, curve: Sequence[float | None]) -> int | None:
    """Returns the first meta-step whose loss has other bits than in `curve`, or None.

    Args:
      run: from `run.build`, of the card's config.
      curve: losses of its first meta-steps, None where every worker diverged.
    """
    run.learner.compile(run.data)
    state = run.learner.init(run.data)
    for step, before in enumerate(curve, 1):
        state, metrics = run.learner.step(state, run.data)
        loss = float(metrics["loss"])
        if loss != before and not (before is None and loss != loss):
            return step
    return None


def main(arguments: Sequence[str] | None = None) -> None:
    """Says whether an artifact's run begins as it did; exits with 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("artifact", help="directory, or name of a released rule")
    parser.add_argument("--compilation_cache", help="where compiled programs are kept")
    given = parser.parse_args(arguments)
    if given.compilation_cache:
        cache = str(commands.path(given.compilation_cache))
        jax.config.update("jax_compilation_cache_dir", cache)
    try:
        card: dict[str, Any] = lopt.read(given.artifact).card
        run = build(card["config"])
    except (KeyError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if not card.get("curve"):
        sys.exit(f"error: the card of {given.artifact} has no curve.")
    step = first_difference(run, card["curve"])
    if step is not None:
        sys.exit(
            f"meta-step {step} has another loss than on {card['hardware']} with "
            f"JAX {card['versions']['jax']}."
        )
    print(f"The losses of {len(card['curve'])} meta-steps are equal, bit for bit.")


if __name__ == "__main__":
    main()
