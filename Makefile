# The two commands of the README are `make demo` and `make test`; everything else is below `make help`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO_READY := $(VENV)/.ready-demo
DEMO := demo
MINUTES := 10

.PHONY: help setup demo test slow browser check fuzz format bench docs oracle dist clean

define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: $$($(PYTHON) --version) is too old; install Python 3.11 or newer, or say make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '$(1)'
	@touch $@
endef

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY) ## make .venv with everything (about 7 GB, PyTorch is most of it); does nothing when up to date

# The demo needs less than the tests: no exporters, no oracles, no documentation tools.
$(DEMO_READY): pyproject.toml constraints.txt
	$(call install,.[sam3])

$(READY): pyproject.toml constraints.txt
	$(call install,.[dev])
	@touch $(DEMO_READY)

demo: $(DEMO_READY) ## audit, distill a student of the embedded micro SAM3, segment with both; writes a page to demo/
	$(BIN)/litetext demo -o $(DEMO)

# One thread in each of the two workers: more would only wait for each other.
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test: setup ## the tests (no network, no GPU, about 4 minutes on 2 cores)
	$(PYTEST) -m 'not slow'

slow: setup ## the slow tests
	$(PYTEST) -m slow

browser: setup ## what the tests of pages in a browser need: Chromium (apt-get, as root), onnxruntime-web and axe-core (npm)
	command -v chromium > /dev/null || { apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium > /dev/null; }
	cd examples/browser && npm ci --silent --ignore-scripts

check: setup ## format, lint, types, size limits
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python scripts/size_limits.py

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

dist: setup ## a wheel and a source distribution in dist/, each tried in a fresh environment without PyTorch
	rm -rf dist
	$(BIN)/python -m build --quiet --outdir dist
	bash scripts/try_dist.sh $(PYTHON)

clean: ## remove what the targets made, .venv excepted
	rm -rf $(DEMO) fuzz-failures site dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
