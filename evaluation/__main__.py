"""The command line: `python -m evaluation --config=... --workdir=...`.

The same command goes on where it was stopped: no run is made twice.
"""

import functools
import json
import os
import shlex
import sqlite3
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
from absl import app, flags
from ml_collections import config_flags

from common import command_line, disk, overrides, settings
from evaluation import report
from evaluation.protocol import DEFAULT, LOOKS, evaluate
from evaluation.runs import entrants
from evaluation.runs.store import FILE, kept
from evaluation.runs.tuning import Tuning

NOTHING: Mapping[str, Any] = {}
TUNING = {  # by default; of its seeds the first and how many
    "protocol": DEFAULT.protocol,
    "trials": DEFAULT.trials,
    "seeds": (DEFAULT.seeds[0], len(DEFAULT.seeds)),
}


def judge(
    *,
    workdir: Path,
    optimizers: str,
    suite: str,
    seeds: tuple[int, int],
    tuning: Mapping[str, Any] = NOTHING,
    reference: str = "adam",
    reference_lengths: tuple[int, ...] = (1, 2),
    looks: int = LOOKS,
    slow_tasks: bool = False,
    title: str | None = None,
) -> None:
    """Evaluates what a config says, and reports it in `workdir`.

    Args:
      workdir: holds `trials.sqlite`, and afterwards `config.json` and the files of
        `report.write`.
      optimizers: names joined by commas; see `entrants.split` and `entrants.find`.
      suite: a name in `SUITES`, or `module:attribute`.
      seeds: the first to report, and how many.
      tuning: as `Tuning`, of whose seeds the first, and how many.
      reference: what others are measured against; a baseline, or
        `module:attribute`, joins them.
      reference_lengths: as in `evaluate`.
      looks: as in `evaluate`.
      slow_tasks: as in `evaluate`.
      title: of the report; by default it names the suite.
    """
    config = {name: value for name, value in locals().items() if name != "workdir"}
    contenders = entrants.find(entrants.split(optimizers))
    how = settings.call(Tuning, "config.tuning", tuning)
    results = evaluate(
        contenders,
        suite,
        _seeds(seeds),
        tuning=how._replace(seeds=_seeds(how.seeds)),
        reference=reference or None,
        reference_lengths=reference_lengths,
        looks=looks,
        slow_tasks=slow_tasks,
        directory=workdir,
        say=command_line.say,
    )
    command = shlex.join(["python", "-m", "evaluation", *sys.argv[1:]])
    results = results._replace(made=results.made | {"command": command})
    with disk.writing(workdir / "config.json"):
        text = json.dumps(config, indent=2) + "\n"
        (workdir / "config.json").write_text(text, encoding="utf-8")
    with disk.writing(workdir / "index.html"):
        with command_line.Pulse() as pulse:
            pulse.begin("writing the report", aloud=False)
            report.write(results, workdir, title=title, config=config)
    seconds = results.seconds
    print(f"{seconds['total']:.0f} s, of which {seconds['compile']:.0f} s compiling")
    print(f"page: {workdir / 'index.html'}", flush=True)


def complete(config: Any, renamed: Iterable[str] = ()) -> dict[str, Any]:
    """Returns a config, resolved, with every default written out."""
    del renamed  # of no section
    full = settings.complete(judge, settings.resolve(config), given=("workdir",))
    if isinstance(full["tuning"], Mapping):
        section = {**TUNING, **full["tuning"]}
        full["tuning"] = settings.complete(Tuning, section)
    return full


def main(argv: list[str]) -> None:
    """Judges the optimizers of the config."""
    if len(argv) > 1:
        sys.exit(f"error: unexpected arguments {argv[1:]}.")
    workdir = command_line.path(flags.FLAGS.workdir)
    command_line.catch(lambda name: f"Stopped by {name}; {_kept(workdir)}.")
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    cache = command_line.path(cache or workdir / "compilation_cache")
    jax.config.update("jax_compilation_cache_dir", str(cache))
    with command_line.ending(sqlite3.Error):
        resolved = complete(flags.FLAGS.config)
        begin = functools.partial(settings.call, judge, "config", resolved)
        try:
            with disk.held(workdir):
                begin(workdir=workdir)
        except disk.DiskFull as error:
            raise disk.DiskFull(f"{error}; {_kept(workdir)}.") from error


def _kept(workdir: Path) -> str:
    """Returns how many runs are kept, and what to do with them."""
    return (
        f"{kept(workdir)} runs are kept in {workdir / FILE}, and the "
        "same command goes on"
    )


def _seeds(first_and_number: tuple[int, int]) -> tuple[int, ...]:
    if len(first_and_number) != 2:
        raise ValueError(f"seeds are the first and how many, got {first_and_number}.")
    first, number = first_and_number
    return tuple(range(first, first + number))


if __name__ == "__main__":
    # Not on import, where they would clash with those of other command lines.
    what = "What to judge, `path.py` or `path.py:variant`."
    config_flags.DEFINE_config_file("config", None, what, lock_config=True)
    flags.DEFINE_string("workdir", None, "Where runs and report go.")
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=functools.partial(overrides.parse, complete=complete))
