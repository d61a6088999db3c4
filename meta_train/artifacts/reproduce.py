"""Takes the first meta-steps of an artifact's run again, and compares their losses.

    python -m meta_train.artifacts.reproduce mu_mlp

It exits with 0 where losses are equal or differ as rounding makes them, else with 1.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import lopt
from common import command_line
from meta_train.build import Run, build

FIRST = {"windows": 1e-6, "runs": 5e-2}  # by what a loss is the mean of
GROWTH, MOST = 20.0, 1.0
WHOLE = ("es", "full")  # estimators whose losses are means of whole runs


def bound(step: int, *, mean_of: str) -> float:
    """Returns the greatest difference of a loss that is taken for rounding.

    Another processor sums in another order, and training makes more of a rounding with
    every step, until runs share no more than their course. Over 80 meta-steps of `demo`
    with the instructions of three processors (XLA_FLAGS of --xla_cpu_max_isa=SSE4_2, of
    AVX2, and AVX-512 without), losses were at most 1e-8 apart at the first, 1e-6, 5e-5
    and 7e-3 at the second, third and fifth, and 0.5 from the 25th on. Mean losses of
    whole runs of 200 inner steps by `mu_mlp` from one theta were 2e-2 apart, one by
    one, and 4e-4 as means over eight. The bound is at least twice each of these. So it
    sees at once what changes the losses of windows from a given theta; what changes
    theta alone, such as a mistake in the outer optimizer, only where it is large.

    Args:
      step: the meta-step, from 1.
      mean_of: key of `FIRST`.
    """
    grown = math.log(FIRST[mean_of]) + (step - 1) * math.log(GROWTH)
    return math.exp(min(grown, math.log(MOST)))


def differences(run: Run, curve: Sequence[float | None]) -> list[float]:
    """Returns how far the loss of each meta-step is from that in `curve`.

    Differences are relative to the mean size of the losses in `curve`, as logarithms
    may be zero; infinite where only one of the two has a loss.

    Args:
      run: from `build.build`, of the card's config.
      curve: losses of its first meta-steps, None where every worker diverged.
    """
    run.learner.compile(run.data)
    state, losses = run.learner.init(run.data), []
    for _ in curve:
        state, metrics = run.learner.step(state, run.data)
        losses.append(float(metrics["loss"]))
    now, then = np.array(losses), np.array(curve, float)
    absent = np.isnan(now) & np.isnan(then)
    sizes = np.abs(then[np.isfinite(then)])
    gaps = np.abs(now - then) / (sizes.mean() if sizes.any() else 1.0)
    return np.where(absent, 0.0, np.nan_to_num(gaps, nan=np.inf)).tolist()


def told(gaps: Sequence[float], there: str) -> str:
    """Returns where losses first differ from those made `there`, and by how much."""
    if not any(gaps):
        return f"The losses of {len(gaps)} meta-steps are equal, bit for bit."
    first, most = int(np.flatnonzero(gaps)[0]), int(np.argmax(gaps))
    return (
        f"Meta-step {first + 1} is the first with another loss than {there}. "
        f"Differences, relative to the mean size of losses: {gaps[first]:.1e} there, "
        f"{gaps[-1]:.1e} at the last, {len(gaps)}, and {gaps[most]:.1e} at most, "
        f"at {most + 1}."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Says whether an artifact's run begins as it did; exits with 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("artifact", help="directory, or name of a released rule")
    parser.add_argument("--compilation_cache", help="where compiled programs are kept")
    parser.add_argument("--path", help="folder of modules that its config names")
    given = parser.parse_args(arguments)
    sys.path += [str(command_line.path(given.path))] if given.path else []
    if given.compilation_cache:
        cache = str(command_line.path(given.compilation_cache))
        jax.config.update("jax_compilation_cache_dir", cache)
    try:
        card: dict[str, Any] = lopt.read(given.artifact).card
        run = build(card["config"])
    except (KeyError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if not card.get("curve"):
        sys.exit(f"error: the card of {given.artifact} has no curve.")
    gaps = differences(run, card["curve"])
    print(told(gaps, f"on {card['hardware']} with JAX {card['versions']['jax']}"))
    whole = card["config"]["estimator"]["name"] in WHOLE
    for step, gap in enumerate(gaps, 1):
        most = bound(step, mean_of="runs" if whole else "windows")
        if gap > most:
            sys.exit(
                f"Meta-step {step} is {gap:.1e} apart, and rounding makes at most "
                f"{most:.1e} of it: the code does something else."
            )
    if any(gaps):
        print("That is no more than rounding makes on another processor.")


if __name__ == "__main__":
    main()
