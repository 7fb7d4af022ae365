# Everything runs in a virtual environment of the project's own; all that is needed is make and Python 3.11 or newer.
# Variables: PYTHON (which Python makes the environment), JOBS (test processes), TESTS (what to test).

PYTHON ?= python3
JOBS ?= 2
TESTS ?= tests

VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

export TF_CPP_MIN_LOG_LEVEL ?= 3

.DEFAULT_GOAL := help
.PHONY: help setup demo test slow lint bench clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST)

setup: $(VENV)/.installed  ## make .venv and install bert4k in it

demo: $(VENV)/.installed  ## load the shipped checkpoint, draw masks, fill, continue and answer
	@$(BIN)/python examples/demo.py

test: lint  ## all checks: style, types, tests on TensorFlow, then the backend-sensitive ones on JAX and PyTorch
	KERAS_BACKEND=tensorflow $(PYTEST) -n $(JOBS) -m "not slow" $(TESTS)
	KERAS_BACKEND=jax $(PYTEST) -n $(JOBS) -m "backends and not slow" $(TESTS)
	KERAS_BACKEND=torch $(PYTEST) -n $(JOBS) -m "backends and not slow" $(TESTS)

slow: $(VENV)/.installed-dev  ## what test leaves out, since it takes long and proves a second time: some recipes whole, several devices
	KERAS_BACKEND=tensorflow $(PYTEST) -n $(JOBS) -m slow $(TESTS)

lint: $(VENV)/.installed-dev  ## style and types only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-dev  ## the benchmarks in tests/bench
	@for script in tests/bench/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:  ## remove the environment and everything generated
	rm -rf $(VENV) build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp file per environment: installing runs once, and again when pyproject.toml changes.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bert4k needs Python 3.11 or newer; found " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 $(MAKECMDGOALS)" or 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing bert4k and what it needs into $(VENV); TensorFlow alone is 600 MB, so the first time takes minutes."
	$(BIN)/python -m pip install --editable .
	@touch $@

# PyTorch goes first and by exact version: left to the resolver, it would be whichever build is newest.
$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install "torch==2.13.0"
	$(BIN)/python -m pip install --editable ".[dev,jax,torch]"
	@touch $@
