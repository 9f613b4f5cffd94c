# Everything a fresh machine with Python 3.11 needs: `make demo` runs the main job, `make test` checks it.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out/demo
STAMP := $(VENV)/.installed
TYPES := build/types/spurious_imagenet

.PHONY: install demo mend board test test-fast check format clean

install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e ".[dev]"
	$(MAKE) --no-print-directory $(TYPES)/.linked
	touch $@

# Static checkers cannot see setuptools' package mapping, so they get the same tree as links.
$(TYPES)/.linked: Makefile
	mkdir -p $(TYPES)
	for p in benchmark builders data_cards leaderboard; do ln -sfn ../../../$$p $(TYPES)/$$p; done
	for f in spurious_imagenet/*.py spurious_imagenet/py.typed; do ln -sf ../../../$$f $(TYPES)/; done
	ln -sfn ../../../spurious_imagenet/cli $(TYPES)/cli
	touch $@

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

test: install
	$(BIN)/pytest -n 2 --dist worksteal $(ORDER)

test-fast: install
	$(BIN)/pytest -n 2 --dist worksteal $(ORDER) -m "not slow"

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
