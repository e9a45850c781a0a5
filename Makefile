# The workspace's commands; `make help` lists them.
PYTHON ?= python3
version_of = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
# PYTHON=python3.13 beside a .venv of another version gets an environment of its own, .venv-3.13.
VENV := .venv
ifneq ($(origin PYTHON),file)
ifneq ($(wildcard .venv/bin/python),)
ifneq ($(call version_of,$(PYTHON)),$(call version_of,.venv/bin/python))
VENV := .venv-$(call version_of,$(PYTHON))
endif
endif
endif
BIN := $(VENV)/bin
DATA_DIR ?= data
# Tests wait for servers and intervals for a good part of their time: three at a time keep two cores busy.
WORKERS ?= 3
MINUTES ?= 10
# The last version whose gRPC server was grpc.aio.
AGAINST ?= 2c1152d4ec
MEMBERS := $(shell sed -n '/^members = \[/,/^\]/s/^ *"\(.*\)",$$/\1/p' pyproject.toml)
TESTS := $(foreach m,$(MEMBERS),$(if $(wildcard $(m)/tests/*.py $(m)/tests/*/*.py),$(m)/tests))
# No package can have a hyphen in its name: files of one name in two such folders would be one module to mypy.
APART := $(foreach t,$(TESTS),$(if $(findstring -,$(t)),$(t)))
TOGETHER := $(filter-out tests/%,$(wildcard $(MEMBERS:%=%/src)) $(filter-out $(APART),$(TESTS))) tests conftest.py
# The folders of `make unit`: what runs without a server, apart from tests with the marker `server`.
UNIT := proto libs services
# Not written as $(MAKE) in a recipe: `make -n test` would run that line, the whole gate.
AGAIN = $(MAKE) --no-print-directory again
SLOW := acceptance or benchmark or browser or docker or official
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/pytest -q
# A worker that has nothing left takes from another: tests of one file stay together, and with them their server.
SHARED_OUT := -n $(WORKERS) --dist worksteal
# Where compiled code is not kept, each of a thousand processes would compile our sources again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run unit test again acceptance official-test console-test setup-browser compose-test bench bench-compare bench-peers bench-page bench-storage bench-scale bench-streaming bench-policies bench-security bench-tracing bench-faust chaos fuzz dist docs check format setup setup-test clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Variables: PYTHON=python3.13 (for a new .venv), WORKERS=3, DATA_DIR=data, MINUTES=10, SEED=, RATE=, AGAINST=$(AGAINST), ARGS="

run: setup ## the platform on this machine, its data in DATA_DIR
	@exec $(BIN)/danube-standalone --data-dir $(DATA_DIR) $(ARGS)

unit: setup-test ## fast tests without servers, with few examples of each property: under a minute
	$(PYTEST) $(SHARED_OUT) --hypothesis-profile=quick -m "not server and not ($(SLOW))" $(UNIT)

test: check ## the whole gate: checks, then all tests but the long ones
	@set -x; $(PYTEST) $(SHARED_OUT) -m "not ($(SLOW))" || { test $$? -eq 1 && $(AGAIN); }

again: ## what failed in the last run, once more and one at a time: what passes now is flaky, a defect to be mended
	$(PYTEST) --last-failed --last-failed-no-failures none -m "not ($(SLOW))"

acceptance: setup-test ## the long tests: real data and a cluster, while processes are killed
	$(PYTEST) -m acceptance

official-test: setup-test ## the official clients at length: Python, and Rust 0.15.1 and 0.2.0, which are compiled; Go's and Java's gRPC by our own programs; OFFICIAL_MESSAGES=200000
	$(PYTEST) -m "not benchmark" -s tests/official

console-test: setup-browser $(VENV)/.installed-browser ## the console in Chromium: each page and action; its pictures go into docs/images
	CONSOLE_IMAGES=docs/images $(PYTEST) -m browser -p no:randomly services/admin/tests/console tests/integration

setup-browser: ## Chromium and a font from Debian's packages, if there is none: by apt-get, as root
	@command -v chromium >/dev/null || { set -x; apt-get update -qq && apt-get install -y --no-install-recommends chromium fonts-inter; }

compose-test: setup-test ## the container stack under faults; needs a Docker engine
	$(PYTEST) -m docker tests/compose

# DANUBE_BENCH_SOAK_SECONDS=600 watches memory for ten minutes more; DANUBE_BENCH_ROUNDS and _SECONDS shorten it.
bench: $(VENV)/.installed-bench ## speed beside bare peers of the same run, figures in reports/: 10 minutes
	$(PYTEST) -m "benchmark and not scale" -s -p no:randomly tests/benchmarks/test_speed.py

bench-compare: $(VENV)/.installed-bench ## speed beside the version AGAINST, the last one with grpc.aio as its server, in turn: 10 minutes
	$(BIN)/python -m tests.benchmarks.compare $(AGAINST)

bench-peers: $(VENV)/.installed-bench ## RabbitMQ and Redis on this machine, from Debian's packages
	$(BIN)/python -m tests.benchmarks.peers

bench-page: setup-test ## put the last figures of the three above into docs/performance.md
	$(BIN)/python -m tests.benchmarks.speed_page

bench-streaming: setup-test ## native streaming by the client library beside nats-py, and a backlog from segments beside the log: 6 minutes
	$(PYTEST) -m benchmark -s -p no:randomly tests/benchmarks/test_streaming.py tests/benchmarks/test_backlog.py

bench-policies: setup-test ## key-shared subscriptions and failure policies beside shared ones
	$(PYTEST) -m benchmark -s -p no:randomly tests/benchmarks/test_delivery_policies.py

# DANUBE_BENCH_MB=1024 for the figures of a release.
bench-storage: setup-test ## archive and replay beside cp, a bare upload and a bare log
	$(PYTEST) -m benchmark -s -p no:randomly tests/benchmarks/test_storage.py

bench-scale: setup-test ## how cost grows with topics, subscriptions and processes: 8 minutes, figures in reports/
	$(PYTEST) -m scale -s -p no:randomly tests/benchmarks/test_scale.py

bench-security: setup-test ## what TLS and tokens cost, with and without them in turn: 2 minutes
	$(PYTEST) -m benchmark -s -p no:randomly tests/benchmarks/test_security_cost.py

bench-tracing: setup-test ## what traces of one message in a hundred cost, with and without them in turn: 2 minutes
	$(PYTEST) -m benchmark -s -p no:randomly tests/benchmarks/test_tracing_cost.py

bench-faust: setup-test ## Faust over Danube topics beside Faust in memory, and the recovery of a table: a minute
	$(PYTEST) -m benchmark -s -p no:randomly tests/benchmarks/test_faust.py

chaos: setup-test ## random faults under load for MINUTES; SEED repeats a plan, RATE is the load
	$(BIN)/python -m danube_harness.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(RATE),--rate $(RATE))

fuzz: $(VENV)/.installed-fuzz ## coverage-guided fuzzing of all decoders for MINUTES, inputs kept in reports/fuzz/
	nice $(BIN)/python -m tests.fuzz --seconds $$((60 * $(MINUTES)))

dist: setup ## wheels, sdists and bills of materials of danubepy (client, tools), danubepy-server (platform) and danubepy-faust, into dist/
	@$(PIP) --require-hashes -r requirements/faust.txt -r requirements/otlp.txt
	$(BIN)/python tools/dist.py

docs: setup-test ## the documentation and the client's reference as a site, into site/
	$(BIN)/mkdocs build --strict --quiet

# One check a line, the longest first. The folders apart share mypy's cache, so they do not run beside it.
define CHECKS
set -e; $(BIN)/mypy $(TOGETHER); for tests in $(APART); do $(BIN)/mypy $$tests; done
$(BIN)/vulture
$(BIN)/lint-imports
$(BIN)/python tools/rooms.py --check
$(BIN)/codespell
$(BIN)/ruff format --check .
$(BIN)/ruff check .
$(BIN)/zizmor --offline --quiet .github/workflows
endef
export CHECKS

check: setup-test ## format, lint, spelling, dead code, types, import rules, workflows: three at a time
	@printenv CHECKS | xargs -P $(WORKERS) -d '\n' -I CHECK sh -c "echo 'CHECK'; CHECK"

format: setup-test ## format, and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: $(VENV)/.installed ## install what `make run` needs into .venv
setup-test: $(VENV)/.installed-test ## and what the tests need

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it: make PYTHON=python3.11")'
	@echo "Setting up $(VENV), once."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python requirements/run.txt VERSION $(MEMBERS:%=%/pyproject.toml)
	@echo "Installing what the platform needs: about 30 s the first time."
	@$(PIP) --require-hashes -r requirements/run.txt
	@echo "Installing the platform itself: a few seconds."
	@$(PIP) --no-deps --no-build-isolation $(MEMBERS:%=-e %)
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed requirements/test.txt requirements/docs.txt requirements/faust.txt requirements/otlp.txt requirements/data.txt
	@echo "Installing what the tests need: about 20 s the first time."
	@$(PIP) --require-hashes -r requirements/test.txt -r requirements/docs.txt -r requirements/faust.txt -r requirements/otlp.txt
	@$(PIP) --require-hashes --no-deps -r requirements/data.txt
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-test requirements/bench.txt
	@echo "Installing what the benchmarks need: about 20 s the first time."
	@$(PIP) --require-hashes -r requirements/bench.txt
	@touch $@

$(VENV)/.installed-browser: $(VENV)/.installed-test requirements/browser.txt
	@$(PIP) --require-hashes -r requirements/browser.txt
	@touch $@

$(VENV)/.installed-fuzz: $(VENV)/.installed-test requirements/fuzz.txt
	@$(PIP) --require-hashes -r requirements/fuzz.txt
	@touch $@

clean: ## delete caches and reports; .venv and data stay
	rm -rf dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache reports
