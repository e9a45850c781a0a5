# make run: the platform on this machine. make test: the whole gate. Everything else is a part of these.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA_DIR ?= data
MEMBERS := $(shell sed -n '/^members = \[/,/^\]/s/^ *"\(.*\)",$$/\1/p' pyproject.toml)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test acceptance bench setup setup-test check clean

run: setup
	@exec $(BIN)/danube-standalone --data-dir $(DATA_DIR) $(ARGS)

setup: $(VENV)/.installed
setup-test: $(VENV)/.installed-test

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python requirements/run.txt $(MEMBERS:%=%/pyproject.toml)
	$(PIP) --require-hashes -r requirements/run.txt
	$(PIP) --no-deps --no-build-isolation $(MEMBERS:%=-e %)
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed requirements/test.txt requirements/data.txt
	$(PIP) --require-hashes -r requirements/test.txt
	$(PIP) --require-hashes --no-deps -r requirements/data.txt
	@touch $@

check: setup-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
