"""The command line: `python -m evaluation --config=... --workdir=...`."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import app, flags
from ml_collections import config_flags

from evaluation import entrants, report, settings
from evaluation.protocol import check, evaluate
from tasks import suites

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "What to judge, `path.py` or `path.py:variant`.", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the report goes.")
flags.mark_flags_as_required(["config", "workdir"])


def judge(
    *,
    workdir: Path,
    optimizers: str,
    reference: str,
    family: Mapping[str, Any],
    num_steps: Sequence[int],
    valid_every: int,
    tuning_seeds: tuple[int, int],
    reporting_seeds: tuple[int, int],
) -> None:
    """Evaluates what a config says, and reports it in `workdir`.

    Args:
      workdir: holds `config.json` and the files of `report.write` afterwards.
      optimizers: names joined by commas; see `entrants.find`.
      reference: one of them, whose steps speed-ups are measured in.
      family: `name` and `args` for `suites.build`.
      num_steps: lengths of runs, in updates.
      valid_every: updates between looks at the validation loss.
      tuning_seeds: the first, and how many.
      reporting_seeds: the first, and how many.
    """
    config = {name: value for name, value in locals().items() if name != "workdir"}
    contenders = entrants.find([name.strip() for name in optimizers.split(",")])
    if reference not in contenders:
        raise ValueError(
            f"unknown {reference=}; it must be one of {', '.join(contenders)}."
        )
    built = settings.named(suites.FAMILIES, suites.build, "config.family", family)
    seeds = _seeds(tuning_seeds), _seeds(reporting_seeds)
    check(num_steps, valid_every, *seeds)
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    results = evaluate(
        contenders,
        built,
        num_steps=num_steps,
        tuning_seeds=seeds[0],
        reporting_seeds=seeds[1],
        valid_every=valid_every,
        say=lambda line: print(line, flush=True),
    )
    report.write(results, workdir, reference=reference, config=config)
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
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def _seeds(first_and_number: tuple[int, int]) -> tuple[int, ...]:
    first, number = first_and_number
    return tuple(range(first, first + number))


if __name__ == "__main__":
    app.run(main, flags_parser=settings.parse)
