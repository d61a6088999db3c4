"""Finished runs, kept on disk by what they are made of, so that none is repeated."""

import contextlib
import hashlib
import io
import json
import re
import sqlite3
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tasks import commands

Arrays = dict[str, np.ndarray]
FILE = "trials.sqlite"  # in a directory of runs


class Store:
    """Arrays by key, in one SQLite file, or in memory where there is no path.

    What is put in together is there together or not at all, whenever the process is
    killed.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Opens a file, or makes one.

        Raises:
          ValueError: if the file is there and holds no runs.
        """
        self.path = path or Path(":memory:")
        try:
            # Two evaluations may share the file: each waits for the other's writing.
            self.database = sqlite3.connect(self.path, timeout=60)
            with commands.writing(self.path), self.database:
                self.database.execute(
                    "CREATE TABLE IF NOT EXISTS runs"
                    " (key TEXT PRIMARY KEY, what TEXT, arrays BLOB)"
                )
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"{path} holds no runs ({error}); remove it to begin anew."
            ) from error

    def get(self, whats: Iterable[Mapping[str, Any]]) -> dict[str, Arrays]:
        """Returns {key: arrays} of those of `whats` that are there."""
        found = {}
        for key in map(key_of, whats):
            row = self.database.execute("SELECT arrays FROM runs WHERE key=?", [key])
            if blob := row.fetchone():
                # What cannot be read is made anew.
                with contextlib.suppress(ValueError, EOFError, zipfile.BadZipFile):
                    found[key] = dict(np.load(io.BytesIO(blob[0])))
        return found

    def put(self, runs: Iterable[tuple[Mapping[str, Any], Arrays]]) -> None:
        """Keeps runs, each said by `what` it is made of, all together.

        Raises:
          DiskFull: if there is no room for them; those from before are kept.
        """
        rows = []
        for what, arrays in runs:
            buffer = io.BytesIO()
            np.savez(buffer, **arrays)
            rows.append((key_of(what), json.dumps(what), buffer.getvalue()))
        with commands.writing(self.path), self.database:
            self.database.executemany(
                "INSERT OR REPLACE INTO runs VALUES (?,?,?)", rows
            )

    def close(self) -> None:
        """Closes the file."""
        self.database.close()


def key_of(what: Mapping[str, Any]) -> str:
    """Returns the hash of JSON values, whatever their order."""
    text = json.dumps(what, sort_keys=True, allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()


def program(function: Callable[..., Any], *args: Any) -> str:
    """Returns a hash of what a function computes: its operations and constants.

    So learned weights, settings and every line of code that matters are in it, and
    none that does not.

    Args:
      function: traced by JAX; of pytrees of arrays.
      args: arrays or `jax.ShapeDtypeStruct`.
    """
    closed = jax.make_jaxpr(function)(*args)
    text = closed.pretty_print(use_color=False)  # by default a terminal's has colours
    # Functions that are printed show where they lie in memory.
    digest = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", text).encode())
    for constant in _constants(closed):
        digest.update(_bytes(constant))
    return digest.hexdigest()[:16]


def arrays_hash(tree: Any) -> str:
    """Returns a hash of a pytree of arrays, with their types and shapes."""
    digest = hashlib.sha256(str(jax.tree.structure(tree)).encode())
    for leaf in jax.tree.leaves(tree):
        digest.update(_bytes(leaf))
    return digest.hexdigest()[:16]


def kept(directory: Path) -> int:
    """Returns how many runs are kept in a directory."""
    with contextlib.suppress(sqlite3.Error):
        uri = f"{(directory / FILE).absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as database:
            return database.execute("SELECT count(*) FROM runs").fetchone()[0]
    return 0


@contextlib.contextmanager
def opened(directory: Path) -> Any:
    """Yields the store of a directory, which it makes."""
    directory = commands.path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    store = Store(directory / FILE)
    try:
        yield store
    finally:
        store.close()


def _constants(program: Any) -> Iterator[Any]:
    """Yields what a program closes over, and the programs that it calls."""
    yield from getattr(program, "consts", ())
    for equation in getattr(program, "jaxpr", program).eqns:
        for value in equation.params.values():
            for one in value if isinstance(value, tuple | list) else [value]:
                if hasattr(getattr(one, "jaxpr", one), "eqns"):
                    yield from _constants(one)


def _bytes(leaf: Any) -> bytes:
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    ):
        leaf = jax.random.key_data(leaf)
    leaf = np.asarray(leaf)
    return f"{leaf.dtype}{leaf.shape}".encode() + leaf.tobytes()
