"""Prepares datasets on disk: `python -m tasks.data.prepare NAME...`.

A preparation that fails leaves nothing half done; the same command tries again.
"""

import argparse
import contextlib
import importlib.util
import pathlib
import sys
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any

from common.names import near
from tasks.data import disk

CONNECT, READ = 10, 60  # seconds that a server may take to answer, and between bytes
RETRIES = 2
ASKED = 3  # files of each server; one that is gone need not be of this config


class Unreachable(OSError):
    """A server that a dataset comes from does not answer, or has none of it."""


def prepare(name: str) -> tuple[str, pathlib.Path]:
    """Writes a dataset as array_record; sets that are not embedded are downloaded.

    Returns:
      The name to load it by, with its config if it has any, and its directory.

    Raises:
      Unreachable: if a server does not answer in `CONNECT` seconds, naming it.
      ModuleNotFoundError: if the set takes TensorFlow, which is not installed.
      data.DatasetNotFound: if it is there in another format, which must be moved away.
      ValueError: if TFDS knows no such set.
    """
    root = disk.directory()
    if name not in disk.EMBEDDED:
        disk.check_name(name)
        with _bounded():
            name = _prepare(name, root)
    return name, disk.located(name, root)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepares each dataset named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = f"name of a TFDS set, or {', '.join(disk.EMBEDDED)}"
    parser.add_argument("names", nargs="+", metavar="NAME", help=names)
    failed = False
    for name in parser.parse_args(arguments).names:
        try:
            print("{}: {}".format(*prepare(name)))
        except Exception as error:  # of any kind: sets of TFDS run code of their own
            failed = True
            print(f"error: {name}: {_line(error)}", file=sys.stderr)
    if failed:
        sys.exit(1)


def _prepare(name: str, root: pathlib.Path) -> str:
    """Has TFDS write a set, unless it is there, and returns its full name."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=root)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"TFDS knows no dataset {name!r}; see `tfds.list_builders()`."
            f"{near(name, disk.FAMILIAR)}"
        ) from error
    if not builder.data_path.exists():
        _check_tensorflow(builder)
        _reach(builder)
        how = tfds.download.DownloadConfig(try_download_gcs=False)
        with disk.writable(root):
            builder.download_and_prepare(
                download_config=how, file_format="array_record"
            )
    config = builder.builder_config
    return f"{builder.name}/{config.name}" if config else builder.name


def _check_tensorflow(builder: Any) -> None:
    """Raises ModuleNotFoundError for sets of TFDS, whose readers are TensorFlow's."""
    shipped = type(builder).__module__.startswith("tensorflow_datasets.")
    if shipped and importlib.util.find_spec("tensorflow") is None:
        raise ModuleNotFoundError(
            "TFDS prepares its sets with TensorFlow, which loading does not need; "
            'run `pip install tensorflow`, or `pip install "lopt[prepare]"`.'
        )


def _reach(builder: Any) -> None:
    """Asks each server of a set for files' heads, before the long road begins."""
    servers: dict[str, list[str]] = {}
    for url in builder.url_infos or ():
        if url.startswith("http"):
            servers.setdefault(urllib.parse.urlsplit(url).netloc, []).append(url)
    for server, urls in servers.items():
        status = min(_status(server, url) for url in urls[:ASKED])
        if status >= 400:
            raise Unreachable(
                f"{server} answers with HTTP {status} for {urls[0]}; nothing was "
                f"written. Try later, or with a newer tensorflow-datasets."
            )


def _status(server: str, url: str) -> int:
    """Returns how a server answers that is asked for a file, which is not read."""
    import requests

    try:
        status = requests.head(url, timeout=CONNECT, allow_redirects=True).status_code
        if status < 400:
            return status
        # Some refuse only to be asked for the head.
        with requests.get(url, timeout=CONNECT, stream=True) as answer:
            return answer.status_code
    except requests.RequestException as error:
        raise Unreachable(
            f"{server} does not answer ({type(error).__name__}); nothing was written. "
            f"Run the same command again later."
        ) from error


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Makes TFDS give up on silent servers: it sets no timeouts and retries long.

    Nor may it ask Google's bucket of prepared sets, which no timeout bounds.
    """
    import requests
    from tensorflow_datasets.core.download import downloader
    from tensorflow_datasets.core.utils import gcs_utils

    places = (
        (requests.Session, "request"),
        (downloader, "MAX_RETRIES"),
        (gcs_utils, "_is_gcs_disabled"),
    )
    before = [getattr(*place) for place in places]
    send = requests.Session.request

    def request(self: Any, *args: Any, **given: Any) -> Any:
        given["timeout"] = given.get("timeout") or (CONNECT, READ)
        return send(self, *args, **given)

    for place, value in zip(places, (request, RETRIES, True), strict=True):
        setattr(*place, value)
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            setattr(*place, value)


def _line(error: Exception) -> str:
    """Returns an error in one line, with its kind where that says more."""
    plain = isinstance(error, OSError | ValueError | ImportError)
    kind = "" if plain else type(error).__name__
    return ": ".join(filter(None, [kind, " ".join(str(error).split())]))


if __name__ == "__main__":
    main()
