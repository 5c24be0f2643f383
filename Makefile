# Every target sets up .venv if needed. Requirements: Linux, make, and Python 3.11 or newer with its venv module.

PYTHON := $(shell for python in python3.11 python3; do \
	$$python -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
# One worker per core, one torch thread per worker: with more threads than idle cores torch is many times slower.
WORKERS ?= $(shell nproc)
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: help setup tiny test test-avx2 lint bench nightly clean
.DEFAULT_GOAL := test

help:
	@echo "make setup       create .venv with thinkling, its extras and the test tools"
	@echo "make tiny        run the whole pipeline; about a quarter of an hour on two CPU cores"
	@echo "make test        run lint and the fast tests (the default target)"
	@echo "make lint        run ruff, pyright and import-linter"
	@echo "make test-avx2   run the tests that depend on CPU kernels, with AVX2 kernels"
	@echo "make nightly     run the slow tests"
	@echo "make bench       measure claims, for example make bench NAME=speed (a topic or a claim id)"
	@echo "make clean       remove .venv and build files, but not runs/"

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "thinkling needs Python 3.11 or newer with its venv module (Debian: apt-get install python3.11-venv)" >&2; exit 1; }
	@echo "setting up .venv: about 2 minutes and 2 GB (6 GB if pip installs the CUDA build of torch; see docs/quickstart.md for the CPU build)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[curate,track,dev]'
	@touch $@

# The whole pipeline, for real, on a laptop.
tiny: .venv/.ready
	$(BIN)/thinkling run recipes/tiny.yaml

# By default pyright checks the network for a newer release of itself.
lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m benchmarks.house.phrases > /dev/null

test: lint
	@echo "pytest: $(WORKERS) workers, one torch thread each"
	$(PYTEST) -m "not slow"

# Tests that depend on CPU kernels, run with AVX2; on most machines torch would choose AVX-512.
test-avx2: .venv/.ready
	ATEN_CPU_CAPABILITY=avx2 $(PYTEST) -m "not slow" tests/model tests/train tests/generate tests/stages tests/quality

nightly: .venv/.ready
	@echo "pytest: $(WORKERS) workers, one torch thread each"
	$(PYTEST) -m slow --timeout 3600

# make bench NAME=speed measures a topic of benchmarks/claims.yaml, NAME=speed.train-cpu-0.3m one claim, NAME=all everything.
bench: .venv/.ready
	@test -n "$(NAME)" || { echo "name the claims to measure: make bench NAME=speed (a topic), NAME=speed.train-cpu-0.3m (one claim) or NAME=all" >&2; exit 1; }
	$(BIN)/python -m benchmarks.harness $(NAME)

# Keeps runs/, which belong to the user.
clean:
	rm -rf .venv build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks experiments -name __pycache__ -type d -prune -exec rm -rf {} +
