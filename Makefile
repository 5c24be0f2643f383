# Every target sets up .venv by itself: all it needs is Linux, make and Python 3.11 or newer with its venv module.

PYTHON := $(shell for python in python3.11 python3; do \
	$$python -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
# One worker a core, one torch thread a worker: torch with more threads than idle cores is many times slower.
WORKERS ?= $(shell nproc)
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: help setup tiny test test-avx2 lint bench nightly clean
.DEFAULT_GOAL := test

help:
	@echo "make setup       .venv with thinkling, its extras and the tools of its tests"
	@echo "make tiny        the whole pipeline on two CPU cores, about a quarter of an hour"
	@echo "make test        lint and the fast tests (the default)"
	@echo "make lint        ruff, pyright, import-linter"
	@echo "make test-avx2   what depends on the CPU's kernels, with those of AVX2"
	@echo "make nightly     the slow tests"
	@echo "make bench       measures claims: make bench NAME=speed (a topic or a claim's id)"
	@echo "make clean       removes .venv and build files, and leaves runs/ alone"

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "thinkling needs Python 3.11 or newer with its venv module (Debian: apt-get install python3.11-venv)" >&2; exit 1; }
	@echo "setting up .venv: about 2 minutes and 2 GB (6 GB where pip installs the CUDA build of torch; docs/quickstart.md names the CPU build)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[curate,track,dev]'
	@touch $@

# The whole pipeline, for real, on a laptop.
tiny: .venv/.ready
	$(BIN)/thinkling run recipes/tiny.yaml

# pyright looks for a newer release of itself on the network unless told not to.
lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(BIN)/lint-imports --no-logo

test: lint
	@echo "pytest: $(WORKERS) workers, one torch thread each"
	$(PYTEST) -m "not slow"

# What depends on the CPU's kernels, with those of AVX2: on most machines torch would choose others (AVX-512).
test-avx2: .venv/.ready
	ATEN_CPU_CAPABILITY=avx2 $(PYTEST) -m "not slow" tests/model tests/train tests/generate tests/stages tests/quality

nightly: .venv/.ready
	@echo "pytest: $(WORKERS) workers, one torch thread each"
	$(PYTEST) -m slow --timeout 3600

# make bench NAME=speed measures a topic of benchmarks/claims.yaml, NAME=speed.train-cpu-0.3m one claim, NAME=all every one.
bench: .venv/.ready
	@test -n "$(NAME)" || { echo "say which claims: make bench NAME=speed (a topic), NAME=speed.train-cpu-0.3m (one) or NAME=all" >&2; exit 1; }
	$(BIN)/python -m benchmarks.harness $(NAME)

# Leaves runs/ alone: those are the user's.
clean:
	rm -rf .venv build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks experiments -name __pycache__ -type d -prune -exec rm -rf {} +
