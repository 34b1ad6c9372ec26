# `make` sets up and builds everything; `make test` installs what tests need and runs them all.
# PALETTIZE_NBITS, OUT_DIR, QUERN_WEIGHTS and QUERN_FIXTURES are read from the environment.

PYTHON ?= python3.11
PIP := .venv/bin/python -m pip install --quiet --disable-pip-version-check
BUILD := .venv/bin/python build_all_variants.py

.PHONY: all setup test test-fast references readme check bench clean
all: .venv/built-with
	$(BUILD) --weights auto

setup: .venv/built-with

# torch comes first and by itself: once it is there, nothing that is installed later pulls a CUDA build of it.
.venv/built-with: requirements/build.txt requirements/recordings.txt
	$(PYTHON) -m venv .venv
	$(PIP) torch==2.13.0
	$(PIP) --requirement requirements/build.txt
	$(PIP) --no-deps --requirement requirements/recordings.txt
	touch $@

.venv/checked-with: .venv/built-with requirements/test.txt
	$(PIP) --requirement requirements/test.txt
	touch $@

.venv/tested-with: .venv/checked-with requirements/reference.txt
	$(PIP) --no-deps --requirement requirements/reference.txt
	touch $@

# The upstream networks are references only; `make` does not need them.
references: .venv/tested-with
	$(BUILD) --weights auto --references

check: .venv/checked-with
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

test: check .venv/tested-with
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest --numprocesses 2

test-fast: check
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest --numprocesses 2 -m "not slow and not reference"

bench: .venv/tested-with
	.venv/bin/python -m benchmarks.interpreter
	.venv/bin/python -m benchmarks.palettes

readme:
	.venv/bin/python -m pipeline.readme

clean:
	rm -rf artifacts build
