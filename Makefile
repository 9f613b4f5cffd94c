# Everything a fresh machine with Python 3.11 needs: `make quick` is a first look, `make demo` runs the main job,
# `make test` checks it.
# Uses uv where it is there, else pip. TORCH=cpu|cuda|auto chooses torch's build, LOCKED=1 the versions of install/lock.txt.
PYTHON ?= python3.11
TORCH ?= auto
LOCKED ?=
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out/demo
STAMP := $(VENV)/.installed
TYPES := build/types/spurious_imagenet

.PHONY: install lock quick demo mend board test test-fast check format clean

install: $(STAMP)

$(STAMP): pyproject.toml
	TORCH=$(TORCH) LOCKED=$(LOCKED) install/environment.sh $(VENV) $(PYTHON)
	$(MAKE) --no-print-directory $(TYPES)/.linked
	touch $@

# Static checkers cannot see setuptools' package mapping, so they get the same tree as links.
$(TYPES)/.linked: Makefile
	mkdir -p $(TYPES)
	for p in benchmark builders data_cards leaderboard; do ln -sfn ../../../$$p $(TYPES)/$$p; done
	for f in spurious_imagenet/*; do ln -sfn ../../../$$f $(TYPES)/; done
	touch $@

# Locks what is installed and tested now. A file of hosts and addresses would be wrong behind another index: none is named.
lock: install
	uv pip freeze --quiet --python $(BIN)/python --exclude-editable | sed 's/+[a-z0-9.]*$$//' > build/frozen.txt
	uv pip compile --quiet --universal --python-version 3.11.5 --generate-hashes --no-annotate --no-header \
	    --extra dev --constraint build/frozen.txt pyproject.toml --output-file build/lock-all.txt
	$(BIN)/python install/split_lock.py build/lock-all.txt install

quick: install
	PATH="$(abspath $(BIN)):$$PATH" python examples/quick.py out/quick

demo: install
	PATH="$(abspath $(BIN)):$$PATH" bash examples/planted_world.sh $(OUT)

mend: install
	[ -e $(OUT)/dataset ] || $(MAKE) --no-print-directory demo
	PATH="$(abspath $(BIN)):$$PATH" bash examples/planted_mend.sh $(OUT)

board: install
	[ -e $(OUT)/dataset ] || $(MAKE) --no-print-directory demo
	PATH="$(abspath $(BIN)):$$PATH" bash examples/planted_board.sh $(OUT)

# In an order of chance, whose seed is printed; `make test SEED=1234` runs the same order again.
SEED ?=
ORDER = $(if $(SEED),--randomly-seed=$(SEED))
# Kept byte code spares each worker a third of the time in which it collects the tests.
PYTEST = env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest

test: install
	$(PYTEST) -n 2 --dist worksteal $(ORDER)

test-fast: install
	$(PYTEST) -n 2 --dist worksteal $(ORDER) -m "not slow"

check: install $(TYPES)/.linked
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_imports.py tests/test_packaging.py

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build out .pytest_cache .mypy_cache .ruff_cache *.egg-info
