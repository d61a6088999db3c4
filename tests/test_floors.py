"""Imports only point down, between floors and between files; names are nouns."""

import ast
import subprocess
import sys

import pytest
from places import ROOT

FLOORS = {
    "common": set(),
    "lopt": set(),
    "tasks": {"common"},
    "evaluation": {"common", "lopt", "tasks"},
    "meta_train": {"common", "lopt", "tasks", "evaluation"},
}

# A file imports only files before it; brackets stand around equals, and a star for
# the rest of a folder, equals too.
FILES = {
    "common": "__init__ names checks settings overrides disk command_line machine "
    "canvas",
    "lopt": "_commands names checks types mup schedules baselines/spaces "
    "baselines/builder baselines/* baselines/__init__ rules/sharded rules/tiles "
    "rules/history rules/features rules/network rules/heads rules/settings "
    "rules/layout rules/groups rules/entries rules/* rules/__init__ stacking "
    "artifact guard catalogue __init__",
    "tasks": "base data/embedded data/own data/stored data/disk data/__init__ "
    "data/prepare networks/__init__ networks/draws networks/layers networks/attention "
    "networks/objectives networks/recurrence families/supervised "
    "families/* [families/bag families/coordinates] families/__init__ "
    "wrappers/__init__ wrappers/gradients wrappers/augmentations entries mixtures "
    "suites costs __init__ __main__",
    "evaluation": "statistics runs/__init__ runs/held_out runs/stepping runs/curves "
    "runs/fingerprints runs/store runs/tuning runs/adapters runs/entrants runs/costs "
    "runs/bench runs/results runs/cells protocol scores/__init__ scores/algoperf "
    "scores/time_to_target scores/standings scores/budgets report/content "
    "report/wording report/verdicts report/summary report/tables report/brief "
    "report/text report/style report/panels report/pictures report/markdown "
    "report/page report/files report/__init__ join __init__ __main__",
    "meta_train": "__init__ inner/__init__ inner/imitation inner/worker "
    "inner/unroll inner/batches inner/meta_loss inner/objectives inner/training "
    "inner/options estimators/buffer estimators/base estimators/noise estimators/* "
    "estimators/combined estimators/mixture estimators/__init__ artifacts/__init__ "
    "artifacts/starting programs hosts learner checkpoint logging workdir "
    "validation sections keys build loop artifacts/export artifacts/reproduce plot "
    "study/__init__ study/moments study/tables study/compare __main__",
}

# Results say what they are only when they are shown.
LATE = {("runs/results", "report/brief"), ("runs/results", "report/__init__")}

# These are no nouns; checkpoints hold the `own` of estimators.
UNNAMED = {"of", "own", "its", "said", "one"}
KEPT = {
    ("meta_train/estimators/buffer.py", "own"),
    ("meta_train/estimators/combined.py", "own"),
    ("meta_train/estimators/mixture.py", "own"),
}


def ranks(package):
    """Returns the height of each file of a package; equals share theirs."""
    height, inside, found = 0, False, {}
    words = FILES[package].split()
    named = {word.strip("[]") for word in words}
    for word in words:
        inside = inside or word.startswith("[")
        name = word.strip("[]")
        rest = (place(x, package) for x in (ROOT / package).glob(f"{name}.py"))
        every = rest if name.endswith("*") else [name]
        found |= {x: height for x in every if x == name or x not in named}
        inside = inside and not word.endswith("]")
        height += not inside
    return found


def sources(package):
    return sorted((ROOT / package).rglob("*.py"))


def place(path, package):
    """Returns how FILES calls a file."""
    return str(path.relative_to(ROOT / package).with_suffix(""))


def imports(path):
    """Yields every module a file imports, `from a import b` as `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported(name, package):
    """Returns the file of a package that holds what is imported from it."""
    parts = name.split(".")[1:]
    for n in range(len(parts), -1, -1):
        for file in ("/".join(parts[:n]), "/".join([*parts[:n], "__init__"])):
            if file and (ROOT / package / f"{file}.py").is_file():
                return file
    raise AssertionError(f"no file for {name}")


def arrows(package):
    """Yields (file, package, name, file there) of imports of the house."""
    for path in sources(package):
        for name in imports(path):
            target = name.split(".")[0]
            if target in FLOORS:
                yield place(path, package), target, name, imported(name, target)


@pytest.mark.parametrize("package", FILES)
def test_every_file_has_its_place(package):
    files = {place(path, package) for path in sources(package)}
    assert files <= set(ranks(package)), "give new files a place in FILES"
    assert files >= set(ranks(package)), "FILES has files that are not there"


@pytest.mark.parametrize("package", FILES)
def test_packages_import_only_lower_floors(package):
    for file, target, name, _ in arrows(package):
        allowed = FLOORS[package] | {package}
        assert target in allowed, f"{package}/{file}.py imports {name}"


@pytest.mark.parametrize("package", FILES)
def test_files_import_only_files_above_them_in_the_table(package):
    rank = ranks(package)
    for file, target, _, other in arrows(package):
        if target == package and other != file and (file, other) not in LATE:
            assert rank[other] < rank[file], f"{package}/{file}.py imports {other}"


def test_nobody_imports_what_stands_beside():
    for package in FILES:
        for path in sources(package):
            beside = {"tests", "benchmarks", "docs", "configs"}
            assert not beside & {name.split(".")[0] for name in imports(path)}, path


def test_only_checkpoint_knows_orbax():
    for path in sources("meta_train"):
        knows = any(name.split(".")[0] == "orbax" for name in imports(path))
        assert knows == (path.stem == "checkpoint"), path


def test_core_needs_only_jax_optax_numpy_safetensors():
    heavy = {"flax", "tensorflow_datasets", "orbax", "tensorflow", "sklearn"}
    code = f"import sys, lopt; print({heavy} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_files_of_the_core_import_only_their_dependencies():
    allowed = {"jax", "optax", "numpy", "safetensors", "lopt", "jaxtyping"}
    for path in sources("lopt"):
        names = {name.split(".")[0] for name in imports(path)}
        assert names - set(sys.stdlib_module_names) <= allowed, path


def defined(node):
    """Returns the name that a node defines, if it does."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return node.name
    if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
        return node.id if isinstance(node, ast.Name) else node.attr
    return node.arg if isinstance(node, ast.arg) else None


@pytest.mark.parametrize("folder", [*FILES, "benchmarks"])
def test_names_are_nouns(folder):
    for path in sources(folder):
        file = str(path.relative_to(ROOT))
        names = {defined(node) for node in ast.walk(ast.parse(path.read_text()))}
        assert not {(file, x) for x in names & UNNAMED} - KEPT
