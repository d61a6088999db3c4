"""Settings of every test: strict shapes, and programs compiled once and fast."""

import os
import tempfile
from importlib import metadata
from pathlib import Path

import pytest

# Read by JAX on import; a broadcast that adds an axis must be written out.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
# Most time here goes into compiling. `make test-all` optimizes as users do.
_FLAGS = ["--xla_backend_optimization_level=0"]
if metadata.version("jaxlib").startswith("0.10."):  # XLA ends at flags it lacks
    _FLAGS.append("--xla_cpu_use_fusion_emitters=false")
    _FLAGS.append("--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE")
    _FLAGS.append("--xla_cpu_parallel_codegen_split_count=1")
os.environ.setdefault("XLA_FLAGS", " ".join(_FLAGS))
_CACHE = Path(__file__).parent.parent / ".cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
# Sets are prepared anew, and not in the home directory; here, because some tests load
# them while they are collected. What tests start inherits it.
_SETS = tempfile.TemporaryDirectory(prefix="tfds-")
os.environ["TFDS_DATA_DIR"] = _SETS.name


@pytest.fixture(autouse=True, scope="session")
def temporary_files_lie_among_those_of_pytest(tmp_path_factory):
    """Keeps what evaluations without a directory leave: pytest removes old ones."""
    patch = pytest.MonkeyPatch()
    patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="session")
def steps_are_timed_briefly():
    """Spares each cell of an evaluation a second: no test asserts a time."""
    from evaluation.runs import costs  # not before the settings above

    patch = pytest.MonkeyPatch()
    patch.setattr(costs, "SECONDS", 0.0)
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="module")
def programs_of_this_file_only():
    """Clears what JAX has compiled: past 8,192 programs it counts none as cached."""
    yield
    import jax  # not before the settings above

    jax.clear_caches()
