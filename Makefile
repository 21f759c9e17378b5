# Needs Python 3.11 or newer and make; everything else comes by itself, once, into .venv.
#
#   make demo         the main job: a real flow is killed, recovered and compared with what it did (installs the core only)
#   make test         every test of tier P, in random order     make test SEED=7 JOBS=0 ARGS='tests/store -x'
#   make setup        the development environment, and nothing else
#   make lint         style, types, who may import whom, the length of modules
#   make crash        tier N: the same promises, held against many more kills (up to 45 minutes)
#   make bench        the ratios of the design against baselines of the same run; make bench-peers adds other engines
#   make docs         the documentation's own checks
#   make references   write the reference pages that the code writes
#   make inspector    the MCP server, asked by the protocol's own Inspector (needs npx and its registry)
#   make lock         resolve requirements/*.txt again from pyproject.toml and requirements/*.in
#
# PYTHON=... names an interpreter; without it the newest tried one is taken.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test crash lint docs references inspector bench bench-peers lock clean

VENV := .venv
PEERS := .venv-peers
BIN := $(VENV)/bin
PYTHON ?=
JOBS ?= 2
ARGS ?=
ifeq ($(SEED),)
SEED := $(shell od -An -N2 -tu2 /dev/urandom | tr -d ' ')
endif
PIP := -m pip --disable-pip-version-check --no-input install --quiet

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

setup: $(VENV)/.dev

demo: $(VENV)/.core
	@$(BIN)/python examples/research/demo.py

# The seed is printed here because `pytest -q` hides its header; with it the same order and the same draws come again.
test: $(VENV)/.dev
	@echo "random order of make test SEED=$(SEED)"
	@KITARU_TIER=P $(BIN)/python -m pytest -n $(JOBS) --randomly-seed=$(SEED) -m "not crash" $(ARGS)

crash: $(VENV)/.dev
	@echo "random order of make crash SEED=$(SEED)"
	@KITARU_TIER=N $(BIN)/python -m pytest -n $(JOBS) --randomly-seed=$(SEED) -m crash $(ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/pyright --project pyproject.toml --pythonpath $(BIN)/python
	@$(BIN)/lint-imports --no-logo --no-cache
	@find kitaru -name '*.py' -exec awk 'FNR == 401 {print FILENAME ": past 400 lines it is two modules"; bad = 1} END {exit bad}' {} +

docs: $(VENV)/.dev
	@$(BIN)/python -m pytest tests/docs $(ARGS)

references: $(VENV)/.dev
	@$(BIN)/python -m tests.docs.references

inspector: $(VENV)/.dev
	@$(BIN)/python -m tests.mcp.inspector

bench: $(VENV)/.core
	@$(BIN)/python -m benchmarks $(ARGS)

bench-peers: $(PEERS)/.done

# The lock: every file of every release, for all platforms and for Python 3.11 and later, with its hash. Only this
# target needs uv. `make lock` keeps the releases that still fit, `make lock UPGRADE=--upgrade` takes the newest.
LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock" $(UPGRADE)
UV ?= uv
UPGRADE ?=
lock:
	cd requirements && $(LOCK) build.in ../pyproject.toml --all-extras dev.in -o dev.txt
	cd requirements && $(LOCK) build.in -c dev.txt -o build.txt
	cd requirements && $(LOCK) ../pyproject.toml -c dev.txt -o core.txt
	cd requirements && $(LOCK) peers.in -o peers.txt

clean:
	rm -rf $(VENV) $(PEERS) .pytest_cache .ruff_cache .hypothesis dist

# --- the environment ---------------------------------------------------------------------------------------------------
# A stamp for each layer: .made the empty environment, .core what Kitaru needs to run, .dev what tests it. A stamp is as old
# as the files it was made from, so a second run installs nothing. Everything that is fetched has its hash in a lock.

$(VENV)/.core: $(VENV)/.made pyproject.toml requirements/build.txt requirements/core.txt
	@echo "installing kitaru's core into $(VENV)"
	@$(BIN)/python $(PIP) --require-hashes -r requirements/build.txt -r requirements/core.txt
	@$(BIN)/python $(PIP) --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.core requirements/dev.txt
	@echo "installing the development tools into $(VENV)"
	@$(BIN)/python $(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

$(PEERS)/.done: $(VENV)/.made requirements/peers.txt
	@echo "installing the peers into $(PEERS)"
	@$(BIN)/python -m venv --clear $(PEERS)
	@$(PEERS)/bin/python $(PIP) --require-hashes -r requirements/peers.txt
	@touch $@

# The environment is made again when the checkout has moved, when its interpreter is gone, or when another one is named.
STALE := $(shell [ "$$(cat $(VENV)/.made 2>/dev/null)" = "$(CURDIR)" ] && $(BIN)/python -c '' 2>/dev/null \
	&& { [ -z "$(PYTHON)" ] || [ "$$($(PYTHON) -c 'import sys; print(sys.version)' 2>/dev/null)" \
	= "$$($(BIN)/python -c 'import sys; print(sys.version)')" ]; } || echo stale)
ifneq ($(STALE),)
.PHONY: $(VENV)/.made
endif

$(VENV)/.made:
	@found=; old=; \
	for python in $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3); do \
		version=$$("$$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue; \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
			found=$$python; "$$python" -c 'import ensurepip, venv' 2>/dev/null && break; \
		else old="$$python is $$version"; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "Kitaru needs Python 3.11 or newer ($${old:-none found}): install one (Debian, Ubuntu: apt install python3.11" \
			"python3.11-venv; macOS: brew install python@3.13), or name one: make ... PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
		short=$$("$$found" -c 'import sys; print("python%d.%d" % sys.version_info[:2])'); \
		echo "$$found has no venv module with pip in it: install it (Debian, Ubuntu: apt install $$short-venv)," \
			"or name another Python: make ... PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	"$$found" -m venv --clear $(VENV) && echo "$(CURDIR)" >$@
