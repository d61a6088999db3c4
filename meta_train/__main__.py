"""The command line: `python -m meta_train --config=... --workdir=...`."""

import contextlib
import functools
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

from absl import app, flags
from ml_collections import config_flags

from common import command_line, disk, overrides

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "What to train: the path of a file, or the name of one in configs/, and perhaps "
    "`:variant`. `--help_config` explains its keys.",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where checkpoints, metrics and the artifact go."
)
_CACHE = flags.DEFINE_string(
    "compilation_cache",
    None,
    "Where compiled programs are kept; `<workdir>/compilation_cache` by default, "
    "or JAX_COMPILATION_CACHE_DIR. JAX_ENABLE_COMPILATION_CACHE=0 keeps none.",
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "Whether this is one of several processes of a run. JAX knows those of SLURM, of "
    "Kubernetes and of Open MPI 4; others need the three flags below.",
)
_ADDRESS = flags.DEFINE_string(
    "coordinator_address", None, "`host:port` of the first process."
)
_COUNT = flags.DEFINE_integer("num_processes", None, "Number of processes.")
_INDEX = flags.DEFINE_integer("process_id", None, "Place of this process, from 0.")
flags.mark_flags_as_required(["config", "workdir"])


class Ended:
    """Whether Ctrl-C or SIGTERM came; the loop asks between meta-steps."""

    def __init__(self) -> None:
        """Takes over both, which otherwise end the process at once."""
        self.number, self._own = 0, 0
        for number in command_line.CODES:
            signal.signal(number, self._note)

    def __call__(self) -> bool:
        """Returns whether either came to any process; every process asks at once."""
        from meta_train import hosts

        self.number = max(hosts.gathered(self._own))
        return bool(self.number)

    def _note(self, number: int, _: Any) -> None:
        if self._own and number == signal.SIGINT:
            print("Stopped by Ctrl-C at once; what was saved is kept.", flush=True)
            os._exit(command_line.CODES[number])
        self._own = number


def main(argv: list[str], ended: Ended | None = None) -> None:
    """Meta-trains, or goes on where the same command was stopped, then exports."""
    if len(argv) > 1:
        sys.exit(f"error: unexpected arguments {argv[1:]}.")
    ended = ended or Ended()
    from meta_train import hosts
    from meta_train.artifacts.export import curve, export
    from meta_train.loop import Stopped, loop

    workdir = command_line.path(_WORKDIR.value)
    with contextlib.ExitStack() as stack:
        stack.enter_context(hosts.ended_together())
        stack.enter_context(command_line.ending(Stopped))
        _join()
        with command_line.Pulse() as pulse:
            pulse.begin("reading data and tracing the run", aloud=False)
            run = _begun(workdir, stack)
        progress = loop(run, workdir, stop=ended)
        if progress.step < run.outer.num_steps:
            name = command_line.NAMES[ended.number]
            print(f"Stopped by {name} at meta-step {progress.step}; saved.", flush=True)
            sys.exit(command_line.CODES[ended.number])
        if not hosts.first():
            return
        command = shlex.join(["python", "-m", "meta_train", *sys.argv[1:]])
        made = {"command": command, "curve": curve(workdir)}
        with disk.writing(workdir / "artifact"):
            path = export(run, progress, workdir / "artifact", **made)
        print(f"artifact: {path}", flush=True)


def _join() -> None:
    """Joins the other processes, if the flags say that there are some."""
    from meta_train import hosts

    where = _ADDRESS.value, _COUNT.value, _INDEX.value
    if _DISTRIBUTED.value:
        with command_line.Pulse() as pulse:
            pulse.begin("waiting for all processes", aloud=False)
            hosts.join(*where)
    elif where != (None, None, None):
        raise ValueError(
            "--coordinator_address, --num_processes and --process_id need "
            "--distributed."
        )


def _begun(workdir: Path, stack: contextlib.ExitStack) -> Any:
    """Returns the run that the flags describe; its directory is held by `stack`."""
    import jax

    from meta_train import hosts
    from meta_train.build import build
    from meta_train.sections import complete
    from meta_train.workdir import claim

    cache = _CACHE.value or os.environ.get("JAX_COMPILATION_CACHE_DIR")
    cache = command_line.path(cache or workdir / "compilation_cache")
    jax.config.update("jax_compilation_cache_dir", str(cache))
    if not _DISTRIBUTED.value:
        hosts.spread(_CONFIG.value.get("estimator", {}).get("num_workers"))
    first, there = hosts.first(), workdir.is_dir()
    if first and there:
        stack.enter_context(disk.held(workdir))
    run = build(_CONFIG.value)
    run.trace()
    if first and not there:  # nothing is made before the config is known to be good
        stack.enter_context(disk.held(workdir))
    if first:
        claim(workdir, run.config, complete=complete)
    hosts.check_shared(workdir)
    hosts.check_same(config=run.config, data=run.data)
    return run


def parse(argv: list[str]) -> list[str]:
    """Returns the arguments that are no flags, or explains keys and ends."""
    from meta_train.sections import complete

    if {"--help_config", "--help-config"} & {*argv}:
        from meta_train import keys

        print("\n".join(keys.lines()))
        sys.exit()
    return overrides.parse(argv, complete=complete)


if __name__ == "__main__":
    # Signals are caught before the seconds that parsing and building take.
    app.run(functools.partial(main, ended=Ended()), flags_parser=parse)
