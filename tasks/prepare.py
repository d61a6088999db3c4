"""Prepares datasets on disk: `python -m tasks.prepare NAME...`."""

import argparse
from collections.abc import Sequence

from tasks import data


def prepare(name: str) -> None:
    """Writes the dataset as array_record; all but digits are downloaded by TFDS."""
    root = data.directory()
    if name in data.EMBEDDED:
        from tasks import digits

        return digits.prepare(root)
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=root, file_format="array_record")
    builder.download_and_prepare()


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepares each dataset named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help="TFDS name, or digits")
    for name in parser.parse_args(arguments).names:
        prepare(name)
        print(f"{name}: {data.find(name, data.directory())}")


if __name__ == "__main__":
    main()
