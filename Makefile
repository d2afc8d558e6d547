# Two commands do everything on a fresh machine with Python 3.11+ and make:  make demo  and  make test.
PYTHON ?= python3
VENV   ?= .venv
# Test files that run at the same time; each process has a Prefect server of its own, 300 MB.
JOBS   ?= 2
BIN    := $(VENV)/bin

.PHONY: help setup demo deploy test lint check format bench clean
.DEFAULT_GOAL := help

help:  ## what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

# One stamp per set of packages: the demo does without the test tools.
$(VENV)/.run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "scanmill needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing scanmill into $(VENV) (about a minute)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(VENV)/.dev  ## a virtual environment with everything for development

demo: $(VENV)/.run  ## a made-up dataset from raw archives to report, in about a minute
	@$(BIN)/scanmill demo --folder scanmill-demo

deploy: $(VENV)/.run  ## work pools, automations and deployments on the Prefect server at PREFECT_API_URL
	@$(BIN)/scanmill deploy

test: $(VENV)/.dev  ## all tests
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

check: lint test  ## format, lint, types and tests

lint: $(VENV)/.dev  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev  ## put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## conversion, rerun, verify and metadata beside a bare loop; writes bench-results/
	$(BIN)/python -m tests.bench

clean:  ## remove what make has made, data of the demo included
	rm -rf $(VENV) scanmill-demo bench-results build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
