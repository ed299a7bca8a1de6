# The two commands of the README are `make demo` and `make test`; everything else is below `make help`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := demo
MINUTES := 10

.PHONY: help setup demo test check fuzz format bench docs oracle clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY) ## make .venv with everything (about 7 GB, PyTorch is most of it); does nothing when up to date

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: $$($(PYTHON) --version) is too old; install Python 3.11 or newer, or say make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup ## audit, distill a student of the embedded micro SAM3, segment with both; writes a page to demo/
	$(BIN)/litetext demo -o $(DEMO)

test: setup ## the tests (no network, no GPU, about 5 minutes on 2 cores)
	# One thread in each of the two workers: more would only wait for each other.
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

check: setup ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fuzz: setup ## damage valid files of every format for MINUTES=10; failing ones are kept in fuzz-failures/
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --minutes $(MINUTES)

format: setup ## format and sort imports in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## the benchmarks; results with the machine's description go to benchmarks/results/
	$(BIN)/python -m benchmarks

docs: setup ## the documentation as a site in site/
	$(BIN)/mkdocs build --strict

oracle: setup ## compare with SAM3's own code (PyPI package `sam3`, SAM License; installed into .venv, never shipped)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps sam3==0.1.4 iopath==0.1.10 portalocker==4.4.2 einops==0.8.2
	$(BIN)/python -m pytest -q -m sam3

clean: ## remove what the targets made, .venv excepted
	rm -rf $(DEMO) fuzz-failures site dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
