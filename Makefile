# Everything runs in .venv, which is built from requirements.lock and needs nothing
# but a Python of at least 3.11: `make test PYTHON=python3.12`.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
FAST := tests/test_floors.py tests/test_encoding.py tests/common tests/lopt/baselines \
  tests/lopt/test_schedules.py tests/evaluation/test_statistics.py \
  tests/evaluation/scores tests/evaluation/report/test_verdicts.py \
  tests/evaluation/report/test_tables.py tests/evaluation/report/test_wording.py \
  tests/meta_train/test_keys.py tests/meta_train/test_workdir.py tests/tasks/data/test_own.py \
  tests/journeys/test_docs.py -m "not slow" -k "not readme and not pages_runs"

.PHONY: demo test test-fast test-all lint lock clean

# Meta-trains, exports, evaluates and shows the result: 3 to 7 minutes on 2 cores.
demo: $(READY)
	$(BIN)/python -m meta_train --config=demo --workdir=runs/demo
	$(BIN)/python -m evaluation --config=evaluate \
	  --config.optimizers=learned=runs/demo/artifact,sgdm,adam,adamw \
	  --workdir=runs/demo/evaluation
	$(BIN)/python -m meta_train.artifacts.export runs/demo/artifact runs/demo/evaluation learned

# What CI runs; doctests and the README's code are among the tests.
test: lint
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

# Lint, types, floors and doctests: what compiles nothing for long.
test-fast: lint
	$(BIN)/python -m pytest -q -n 2 --dist loadfile $(FAST)

# With the optimizations of XLA that `make test` leaves out to compile faster.
test-all: lint
	XLA_FLAGS= $(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Takes the newest versions that pyproject.toml allows.
lock: $(READY)
	$(BIN)/python -m pip install uv
	$(BIN)/uv pip compile --upgrade --universal --fork-strategy=fewest \
	  --python-version=3.11 --extra=test --generate-hashes --no-annotate \
	  --custom-compile-command="make lock" --output-file=requirements.lock \
	  pyproject.toml

clean:
	rm -rf .venv build dist *.egg-info

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "lopt needs Python >= 3.11: make PYTHON=python3.11 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
