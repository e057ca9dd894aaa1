# Needs Python 3.11 or newer and make, nothing else: the rest goes into .venv.
# The first run installs; later runs do so only after a change of pyproject.toml.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# One process more than cores, for tests that wait; four at the most.
PROCESSES ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n < 4 ? n + 1 : 4)))
PYTEST := $(BIN)/python -m pytest -n $(PROCESSES) $(PYTEST_ARGS)

# The first of these that is new enough and can make a virtual environment.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && echo $$python && break; done)

.PHONY: help demo test lint types unit bench guard clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' Makefile
	@echo 'Arguments for pytest: make unit T=tests/middleware PYTEST_ARGS="-x -k retry"'

demo: $(VENV)/.runs ## a bus, a worker, the HTTP gateway and an example, until Ctrl-C
	@exec $(BIN)/kitmsg dev examples/addsvc

test: lint types ## everything a laptop can check; pytest's summary comes last
	@$(BIN)/python -m tests.peers
	$(PYTEST) $(T)

lint: $(VENV)/.develops ## style, import layers, spelling, advisories
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/codespell
	@$(BIN)/python -m tests.audit

types: $(VENV)/.develops ## mypy --strict
	$(BIN)/mypy

unit: $(VENV)/.develops ## the quick tests: no servers, no processes
	$(PYTEST) -m 'not slow' --ignore-glob='*nats*' $(or $(T),\
		--ignore=tests/cli --ignore=tests/worker --ignore=tests/examples)

bench: $(VENV)/.develops ## compare speeds; takes minutes
	@$(PIP) install --group bench
	$(BIN)/python -m benchmarks

guard: $(VENV)/.develops ## what a call costs beside a bare echo, in one short run
	@$(BIN)/python -m benchmarks guard

clean: ## remove .venv, caches and builds
	rm -rf $(VENV) build dist *.egg-info .*_cache .hypothesis .coverage*
	find kitmsg gateways tests examples -name __pycache__ -prune -exec rm -rf {} +

# pip installs dependency groups from 25.1 on.  A .venv without pip was left half made.
$(VENV)/.runs: pyproject.toml
	@test -n '$(PYTHON)' || { echo 'No Python 3.11 or newer with the venv module was found:' \
		'install one (Debian: apt install python3 python3-venv),' \
		'or name it: make PYTHON=/path/to/python3 ...' >&2; exit 1; }
	@echo 'Installing into $(VENV), once: this takes a minute.'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --editable '.[all]'
	@touch $@

$(VENV)/.develops: $(VENV)/.runs
	@echo 'Installing what the tests need.'
	@$(PIP) install --editable '.[all]' --group dev
	@touch $@
