"""Prepares datasets on disk: `python -m tasks.prepare NAME...`.

A preparation that fails leaves nothing half done; the same command tries again.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from tasks import data

CONNECT, READ = 10, 60  # seconds that a server may take to answer, and between bytes
RETRIES = 2


class Unreachable(OSError):
    """A server that a dataset comes from does not answer."""


def prepare(name: str) -> None:
    """Writes the dataset as array_record; sets that are not embedded are downloaded.

    Raises:
      Unreachable: if a server does not answer in `CONNECT` seconds, naming it.
      ValueError: if TFDS knows no such set.
    """
    root = data.directory()
    if name in data.EMBEDDED:
        from tasks import embedded

        return embedded.prepare(name, root)
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=root, file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(f"TFDS knows no dataset {name!r}; see `tfds list`.") from error
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    if not builder.data_path.exists():
        with _bounded():
            _reach(name, builder)
            builder.download_and_prepare(download_config=config)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepares each dataset named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = f"name of a TFDS set, or {', '.join(data.EMBEDDED)}"
    parser.add_argument("names", nargs="+", metavar="NAME", help=names)
    for name in parser.parse_args(arguments).names:
        try:
            prepare(name)
        except (OSError, ValueError) as error:
            sys.exit(f"error: {error}")
        print(f"{name}: {data.find(name, data.directory())}")


def _reach(name: str, builder: Any) -> None:
    """Asks each server of a set for one file's head, before the long road begins."""
    import requests

    servers = {url.split("/")[2]: url for url in builder.url_infos if "//" in url}
    for server, url in servers.items():
        try:
            requests.head(url, timeout=CONNECT, allow_redirects=False)
        except requests.RequestException as error:
            raise Unreachable(
                f"{name}: {server} does not answer ({type(error).__name__}); nothing "
                f"was written. Run `python -m tasks.prepare {name}` again later."
            ) from error


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Makes TFDS give up on silent servers: it sets no timeouts and retries long."""
    import requests
    from tensorflow_datasets.core.download import downloader

    send, retries = requests.Session.request, downloader.MAX_RETRIES

    def request(self: Any, *args: Any, **given: Any) -> Any:
        given["timeout"] = given.get("timeout") or (CONNECT, READ)
        return send(self, *args, **given)

    requests.Session.request, downloader.MAX_RETRIES = request, RETRIES
    try:
        yield
    finally:
        requests.Session.request, downloader.MAX_RETRIES = send, retries


if __name__ == "__main__":
    main()
