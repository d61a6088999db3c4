"""How command lines begin and end, and what they say in between.

Under `python -m` this is imported before all that takes seconds, so that Ctrl-C and
missing packages end a command with one line from the start.
"""

import contextlib
import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

# What lopt[train] brings, and the commands import.
MODULES = (
    "absl",
    "array_record",
    "flax",
    "grain",
    "jaxtyping",
    "jinja2",
    "matplotlib",
    "ml_collections",
    "orbax",
    "rich",
    "sklearn",
    "scipy",
    "tensorflow_datasets",
)
SILENCE = 8.0  # seconds without a line, at most
NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
CODES = {signal.SIGINT: 130, signal.SIGTERM: 0}


def lacking() -> str | None:
    """Returns a sentence that names the packages of `MODULES` that are absent."""
    absent = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return (
        f"tasks, evaluation and meta_train need {', '.join(absent)}, which the core "
        'leaves out: run `pip install --editable ".[train]"` in the checkout.'
    )


def path(text: str | os.PathLike) -> Path:
    """Returns a path of which `~` is the home directory, as shells have it.

    >>> path("runs/demo").parts
    ('runs', 'demo')
    """
    return Path(os.path.expanduser(text))


def catch(line: Callable[[str], str], *, numbers: Iterable[int] = CODES) -> None:
    """Has Ctrl-C and SIGTERM end this process with a line and their code of `CODES`.

    Args:
      line: name of the signal -> what to print.
      numbers: of signals, of those two.
    """

    def end(number: int, _: Any) -> None:
        print(line(NAMES[number]), flush=True)
        sys.exit(CODES[number])

    for number in numbers:
        signal.signal(number, end)


@contextlib.contextmanager
def ending(*others: type[Exception]) -> Iterator[None]:
    """Ends the process with one line where the block raises what users can mend."""
    try:
        yield
    except (ValueError, OSError, ImportError, *others) as error:
        sys.exit(f"error: {error}")


def say(line: str) -> None:
    """Prints a line at once."""
    print(line, flush=True)


class Pulse:
    """Says what goes on, and again whenever nothing was said for `SILENCE` seconds.

    >>> with Pulse() as pulse:
    ...     pulse.begin("compiling 3 programs, about 20 s")
    compiling 3 programs, about 20 s
    """

    def __init__(self, say: Callable[[str], None] = say, *, silence: float = SILENCE):
        """Takes what prints a line."""
        self._print, self._silence = say, silence
        self._what, self._began = "", time.monotonic()
        self._last, self._ended = self._began, threading.Event()

    def begin(self, what: str, *, aloud: bool = True) -> None:
        """Takes what goes on from now on, and says it."""
        self._what, self._began = what, time.monotonic()
        self.heard()
        if aloud:
            self._print(what)

    def say(self, line: str) -> None:
        """Says a line."""
        self.heard()
        self._print(line)

    def heard(self) -> None:
        """Notes that something was said."""
        self._last = time.monotonic()

    def __enter__(self) -> "Pulse":
        """Starts to listen for silence, in a thread that ends with the process."""
        self._ended.clear()
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        """Ends it."""
        self._ended.set()

    def _listen(self) -> None:
        while not self._ended.wait(self._silence / 8):
            now = time.monotonic()
            if self._what and now - self._last >= self._silence:
                self.heard()
                self._print(f"{self._what}: {now - self._began:.0f} s so far")


def begin() -> None:
    """Prepares a process for a command: what it prints, and how it is ended."""
    # XLA prints a banner where compiling takes minutes. What fails in it is raised.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # the locale may lack a character
    # What has nothing to go on with is not done where SIGTERM ends it.
    catch(lambda name: f"Stopped by {name}.", numbers=[signal.SIGINT])
    if sentence := lacking():
        sys.exit(f"error: {sentence}")


# Set while `python -m` looks for a module; there is nothing else to tell it by.
if sys.argv[:1] == ["-m"]:
    begin()
elif (absent := lacking()) is not None:
    raise ModuleNotFoundError(absent)
