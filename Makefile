# eightfold: make help
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
# Address of a package index with CPU builds of PyTorch; needed where pip finds none by itself (README, Installation).
TORCH_INDEX ?=

.PHONY: help setup demo test test-slow lint docs-reference screenshots bench gpu-bundle lock clean
.DEFAULT_GOAL := help

help:  ## this text
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## create .venv and install the pinned CPU stack (4 GB), once

$(STAMP): requirements/cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
	  || { echo "eightfold needs Python 3.11 or 3.12; call make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/pip install -q --no-deps --index-url $(TORCH_INDEX) $(shell grep '^torch==' requirements/cpu.txt))
	$(BIN)/pip install -q --no-deps -r requirements/cpu.txt
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@$(BIN)/python -c 'import torch' \
	  || { echo "torch does not import: pass TORCH_INDEX, an index with CPU builds (README, Installation)" >&2; exit 1; }
	@touch $@

demo: $(STAMP)  ## the whole job on the embedded default, two cores, no GPU
	$(BIN)/python -m jobs.run demo

test: $(STAMP)  ## import directions, unit tests, short end-to-end tests on the real engines
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

test-slow: $(STAMP)  ## the slow end-to-end tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

lint: $(STAMP)  ## ruff, mypy, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy docs/walkthrough.py docs/screenshots.py
	$(BIN)/lint-imports

docs-reference: $(STAMP)  ## write docs/recipe.md anew, from the settings classes
	$(BIN)/python -m jobs.reference

RUN ?= runs/demo
screenshots: $(STAMP)  ## docs/report.png, plots.png, trace.png of a finished run (RUN=runs/demo), by Chromium
	$(BIN)/python docs/screenshots.py $(RUN)

bench: $(STAMP)  ## every benchmark, short form, each against its peer in the same run
	for name in verification sampling orchestration credit training synthesis; do $(BIN)/python -m benchmarks.$$name --quick || exit 1; done

HAVE ?= have.txt
GPU_PYTHON ?= 3.12
WANT ?= deepspeed peft trl
PART_MB ?= 60
OUT ?= gpu-bundle
gpu-bundle: $(STAMP)  ## wheels a GPU machine without network lacks (HAVE=its pip list), for benchmarks/gpu_offline.sh
	$(BIN)/python -m benchmarks.gpu_bundle --have "$(HAVE)" --python $(GPU_PYTHON) --want "$(WANT)" --part-mb $(PART_MB) --out "$(OUT)"

lock: $(STAMP)  ## write requirements/*.txt anew
	PATH="$(abspath $(BIN)):$$PATH" sh requirements/lock.sh

clean:  ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
