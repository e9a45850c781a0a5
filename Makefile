# make run: the platform on this machine. make test: the whole gate. Everything else is a part of these.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA_DIR ?= data
WORKERS ?= 2
MINUTES ?= 10
MEMBERS := $(shell sed -n '/^members = \[/,/^\]/s/^ *"\(.*\)",$$/\1/p' pyproject.toml)
PACKAGES := $(notdir $(wildcard $(MEMBERS:%=%/src/*)))
# Where tests are: each folder is checked by itself, because file names repeat among them.
TESTS := $(foreach m,$(MEMBERS),$(if $(wildcard $(m)/tests/*.py $(m)/tests/*/*.py),$(m)/tests)) tests conftest.py
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/pytest -q

.PHONY: run test acceptance compose-test bench bench-storage bench-scale chaos setup setup-test check format clean

run: setup
	@exec $(BIN)/danube-standalone --data-dir $(DATA_DIR) $(ARGS)

test: check
	$(PYTEST) -n $(WORKERS) -m "not acceptance and not benchmark and not docker"

acceptance: setup-test
	$(PYTEST) -m acceptance tests/acceptance tests/integration

compose-test: setup-test
	$(PYTEST) -m docker tests/compose

bench: setup-test
	$(PYTEST) -m "benchmark and not scale" -s -p no:randomly tests/benchmarks/test_publish.py

# Tier 2 beside cp, a bare upload and a bare log. DANUBE_BENCH_MB=1024 for the figures of a release.
bench-storage: setup-test
	$(PYTEST) -m benchmark -s -p no:randomly tests/benchmarks/test_storage.py

# How cost grows with topics, subscriptions and processes: about 8 minutes; the figures stay in reports/.
bench-scale: setup-test
	$(PYTEST) -m scale -s -p no:randomly tests/benchmarks/test_scale.py

# make chaos MINUTES=30 SEED=1: a long run of the faults that the gate meets for two minutes; SEED repeats one.
chaos: setup-test
	$(BIN)/python -m danube_harness.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

check: setup-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(PACKAGES:%=-p %)
	@set -e; for tests in $(TESTS); do echo "$(BIN)/mypy $$tests"; $(BIN)/mypy $$tests; done
	$(BIN)/lint-imports

format: setup-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: $(VENV)/.installed
setup-test: $(VENV)/.installed-test

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it: make PYTHON=python3.11")'
	@echo "Setting up $(VENV), once."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python requirements/run.txt $(MEMBERS:%=%/pyproject.toml)
	@echo "Installing what the platform needs: about 30 s the first time."
	@$(PIP) --require-hashes -r requirements/run.txt
	@echo "Installing the platform itself: a few seconds."
	@$(PIP) --no-deps --no-build-isolation $(MEMBERS:%=-e %)
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed requirements/test.txt requirements/data.txt
	@echo "Installing what the tests need: about 20 s the first time."
	@$(PIP) --require-hashes -r requirements/test.txt
	@$(PIP) --require-hashes --no-deps -r requirements/data.txt
	@touch $@

clean:
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache reports
