# Each target is enough on a fresh machine that has Python 3.11 or newer: it makes the virtual environment it needs.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
# One thread a process: on shared cores two OpenMP threads are slower than one.
export OMP_NUM_THREADS := 1
WORKERS ?= 2

.PHONY: install demo test check lint docs soak

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "make: onereward needs Python 3.11 or newer; name one with: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' \
		|| { echo "make: this Python cannot make virtual environments; on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV): some minutes, once"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: install
	$(BIN)/onereward demo --output runs/demo

test: install
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: install
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

docs: install
	$(BIN)/python -m docs.reference.write_cli

soak: install
	mkdir -p docs/soak
	$(BIN)/python -m pytest -m soak -rA --show-capture=stdout 2>&1 | tee docs/soak/last.txt; exit $${PIPESTATUS[0]}
