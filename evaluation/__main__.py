"""The command line: `python -m evaluation --config=... --workdir=...`.

The same command goes on where it was stopped: no run is made twice.
"""

import json
import os
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from absl import app, flags
from ml_collections import config_flags

from evaluation import entrants, report, settings
from evaluation.protocol import evaluate
from evaluation.tuning import Tuning

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "What to judge, `path.py` or `path.py:variant`.", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where runs and report go.")
flags.mark_flags_as_required(["config", "workdir"])


def judge(
    *,
    workdir: Path,
    optimizers: str,
    suite: str,
    seeds: tuple[int, int],
    tuning: Mapping[str, Any],
    reference: str,
    reference_lengths: tuple[int, ...],
    looks: int,
) -> None:
    """Evaluates what a config says, and reports it in `workdir`.

    Args:
      workdir: holds `trials.sqlite`, and afterwards `config.json` and the files of
        `report.write`.
      optimizers: names joined by commas; see `entrants.find`.
      suite: name in `SUITES`.
      seeds: the first to report, and how many.
      tuning: as `Tuning`, of whose seeds the first, and how many.
      reference: what others are measured against; a baseline joins them.
      reference_lengths: as in `evaluate`.
      looks: as in `evaluate`.
    """
    config = {name: value for name, value in locals().items() if name != "workdir"}
    contenders = entrants.find([name.strip() for name in optimizers.split(",")])
    how = settings.call(Tuning, "config.tuning", tuning)
    results = evaluate(
        contenders,
        suite,
        _seeds(seeds),
        tuning=how._replace(seeds=_seeds(how.seeds)),
        reference=reference or None,
        reference_lengths=reference_lengths,
        looks=looks,
        directory=workdir,
        say=lambda line: print(line, flush=True),
    )
    (workdir / "config.json").write_text(
        json.dumps(config, indent=2) + "\n", encoding="utf-8"
    )
    report.write(results, workdir, config=config)
    seconds = results.seconds
    print(f"{seconds['total']:.0f} s, of which {seconds['compile']:.0f} s compiling")
    print(f"page: {workdir / 'index.html'}", flush=True)


def main(argv: list[str]) -> None:
    """Judges the optimizers of the config."""
    if len(argv) > 1:
        sys.exit(f"error: unexpected arguments {argv[1:]}.")
    workdir = Path(_WORKDIR.value)
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    jax.config.update(
        "jax_compilation_cache_dir", cache or str(workdir / "compilation_cache")
    )
    try:
        resolved = settings.resolve(_CONFIG.value)
        settings.call(judge, "config", resolved, workdir=workdir)
    except (ValueError, OSError, sqlite3.Error) as error:
        sys.exit(f"error: {error}")


def _seeds(first_and_number: tuple[int, int]) -> tuple[int, ...]:
    if len(first_and_number) != 2:
        raise ValueError(f"seeds are the first and how many, got {first_and_number}.")
    first, number = first_and_number
    return tuple(range(first, first + number))


if __name__ == "__main__":
    app.run(main, flags_parser=settings.parse)
