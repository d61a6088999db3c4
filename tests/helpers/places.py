"""Where the repository, its tests and their data lie."""

import os
from pathlib import Path

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent
DATA = TESTS / "data"
PYTHONPATH = os.pathsep.join([str(ROOT), str(TESTS / "helpers")])  # of processes
