"""Finished runs, kept on disk by what they are made of, so that none is repeated."""

import contextlib
import hashlib
import io
import json
import sqlite3
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from common import command_line, disk

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
            with disk.writing(self.path), self.database:
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
        with disk.writing(self.path), self.database:
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
    directory = command_line.path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    store = Store(directory / FILE)
    try:
        yield store
    finally:
        store.close()
