"""The command line: `python -m meta_train --config=... --workdir=...`."""

import os
import shlex
import signal
import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from evaluation import settings

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "What to train, `path.py` or `path.py:variant`.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where checkpoints, metrics and the artifact go."
)
_CACHE = flags.DEFINE_string(
    "compilation_cache",
    None,
    "Where compiled programs are kept; `<workdir>/compilation_cache` by default, "
    "or JAX_COMPILATION_CACHE_DIR.",
)
flags.mark_flags_as_required(["config", "workdir"])


class Terminated:
    """Whether SIGTERM came; the loop asks between meta-steps."""

    def __init__(self) -> None:
        """Takes over SIGTERM, which otherwise ends the process at once."""
        self._came = False
        signal.signal(signal.SIGTERM, self._note)

    def __call__(self) -> bool:
        """Returns whether SIGTERM came."""
        return self._came

    def _note(self, *_: object) -> None:
        self._came = True


def main(argv: list[str]) -> None:
    """Meta-trains, or goes on where the same command was stopped, then exports."""
    if len(argv) > 1:
        sys.exit(f"error: unexpected arguments {argv[1:]}.")
    terminated = Terminated()
    # SIGTERM must be caught before the seconds that these imports take.
    import jax

    from meta_train.config import OtherConfig, claim
    from meta_train.export import curve, export
    from meta_train.loop import Stopped, loop
    from meta_train.run import build

    workdir = Path(_WORKDIR.value)
    cache = _CACHE.value or os.environ.get("JAX_COMPILATION_CACHE_DIR")
    jax.config.update(
        "jax_compilation_cache_dir", cache or str(workdir / "compilation_cache")
    )
    try:
        run = build(_CONFIG.value)
        run.trace()
        claim(workdir, run.config)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    try:
        progress = loop(run, workdir, stop=terminated)
    except (Stopped, OtherConfig) as error:
        sys.exit(f"error: {error}")
    if progress.step < run.outer.num_steps:
        print(f"Stopped by SIGTERM at meta-step {progress.step}; saved.", flush=True)
        return
    command = shlex.join(["python", "-m", "meta_train", *sys.argv[1:]])
    made = {"command": command, "curve": curve(workdir)}
    print(
        f"artifact: {export(run, progress, workdir / 'artifact', **made)}", flush=True
    )


if __name__ == "__main__":
    app.run(main, flags_parser=settings.parse)
