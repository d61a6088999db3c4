"""Imports only point down: between floors, and between the files of a package."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FLOORS = {
    "lopt": set(),
    "tasks": set(),
    "evaluation": {"lopt", "tasks"},
    "meta_train": {"lopt", "tasks", "evaluation"},
}

# A file imports only files to its left; a list stands for equals.
FILES = {
    "lopt": "names checks types history features network heads schedules mup spaces "
    "builder [hand_designed contrib] baselines rules "
    "stacking artifact guard catalogue __init__",
    "tasks": "commands base embedded stored data prepare draws layers attention "
    "objectives supervised "
    "[quadratic surfaces teacher mlp conv autoencoder language vit mixer bigram] "
    "[bag coordinates] gradients augment entries suites costs __init__ __main__",
    "evaluation": "checks settings validation scores algoperf curves tuning trials "
    "adapt entrants machine costs bench results cells protocol race standings words "
    "budgets verdicts summary tables brief text plots panels pictures markdown page "
    "report compare __init__ __main__",
    "meta_train": "imitation worker unroll estimators theta learner checkpoint logging "
    "config provenance validation run loop export reproduce plot moments contrast "
    "compare __main__",
    "meta_train/estimators": "buffer base noise "
    "[reverse evolution bootstrapped implicit] combined mixture __init__",
}

# Results say what they are only when they are shown.
LATE = {("results", "brief")}


def ranks(package):
    """Returns the height of each file of a package; equals share theirs."""
    height, inside, found = 0, False, {}
    for word in FILES[package].split():
        inside = inside or word.startswith("[")
        found[word.strip("[]")] = height
        inside = inside and not word.endswith("]")
        height += not inside
    return found


def sources(package):
    return sorted((ROOT / package).glob("*.py"))


def imports(path):
    """Yields every module a file imports, `from a import b` as `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows(package):
    """Yields (file, package, file) for each import of the house by the house."""
    files = ranks(package)
    dots = package.replace("/", ".")
    for path in sources(package):
        for name in imports(path):
            if name.startswith(f"{dots}."):
                target = name.removeprefix(f"{dots}.").split(".")[0]
                yield path.stem, package, target if target in files else "__init__"
            elif name.split(".")[0] in FLOORS:
                yield path.stem, name.split(".")[0], name


@pytest.mark.parametrize("package", FILES)
def test_every_file_has_its_place(package):
    files = {path.stem for path in sources(package)} - {"__init__"}
    assert files <= set(ranks(package)), "give new files a place in FILES"


@pytest.mark.parametrize("package", FILES)
def test_packages_import_only_lower_floors(package):
    floor = package.split("/")[0]
    for file, target, name in arrows(package):
        allowed = FLOORS[floor] | {floor, package}
        assert target in allowed, f"{package}/{file}.py imports {name}"


@pytest.mark.parametrize("package", FILES)
def test_files_import_only_files_above_them_in_the_table(package):
    rank = ranks(package)
    for file, target_package, target in arrows(package):
        if target_package == package and target != file and (file, target) not in LATE:
            assert rank[target] < rank[file], f"{package}/{file}.py imports {target}"


def test_estimators_import_only_what_is_above_them():
    rank = ranks("meta_train")
    for path in sources("meta_train/estimators"):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "meta_train" and parts[1] != "estimators":
                assert rank[parts[1]] < rank["estimators"], f"{path} imports {name}"


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
