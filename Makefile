# Two commands do everything on a fresh machine with Python 3.11+ and make:  make demo  and  make test.
PYTHON ?= python3
VENV   ?= .venv
# Test files that run at the same time; each process has a Prefect server of its own, 300 MB.
JOBS   ?= 2
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

.PHONY: help packages setup demo deploy radiomics test coverage contract lint check format bench torture audit clean
.NOTPARALLEL:  # one pip at a time
.DEFAULT_GOAL := help

help:  ## what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

# One stamp per set of packages: the demo does without the test tools.
$(VENV)/.run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "scanmill needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing scanmill into $(VENV) (about a minute)"
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@$(PIP) -e '.[dev]'
	@touch $@

$(VENV)/.learn: $(VENV)/.run
	@$(PIP) -e '.[learn]'
	@touch $@

# PyRadiomics takes two steps and a C compiler: it imports numpy while it is built and does not say so. Where that cannot be
# (no compiler, no network), everything else goes on without it and this is tried again the next time; only in CI it ends here.
$(VENV)/.radiomics: $(VENV)/.run
	@{ $(PIP) numpy wheel setuptools && $(PIP) --no-build-isolation pyradiomics==3.0.1; } >$(VENV)/radiomics.log 2>&1 && touch $@ || { \
	    grep -i 'error:' $(VENV)/radiomics.log | tail -n 4 >&2; \
	    echo "PyRadiomics could not be installed: why stands above, and all of it in $(VENV)/radiomics.log." >&2; \
	    echo "It needs a C compiler and the headers of Python (Debian: apt-get install gcc libc6-dev python3-dev)." >&2; \
	    echo "Without it the tests of radiomics are skipped." >&2; \
	    test -z "$(CI)$(SCANMILL_REQUIRE_ALL)"; }

packages: $(VENV)/.dev

setup: $(VENV)/.dev $(VENV)/.radiomics  ## a virtual environment with everything for development

demo: $(VENV)/.run  ## a made-up dataset from raw archives to report, in about a minute
	@$(BIN)/scanmill demo --folder scanmill-demo

deploy: $(VENV)/.run  ## work pools, automations and deployments on the Prefect server at PREFECT_API_URL
	@$(BIN)/scanmill deploy

radiomics: $(VENV)/.learn $(VENV)/.radiomics  ## what `scanmill train ovf-radiomics` needs: torch and its like, PyRadiomics
	@test -e $(VENV)/.radiomics

test: $(VENV)/.dev $(VENV)/.radiomics  ## all tests
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Data of every process gather in build/coverage; TESTS chooses: make coverage TESTS='tests/test_cli.py tests/test_diff.py'
coverage: export COVERAGE_FILE = $(CURDIR)/build/coverage/data
coverage: $(VENV)/.dev $(VENV)/.radiomics  ## all tests once more, and which lines of which module they do not run
	@rm -rf build/coverage && mkdir -p build/coverage
	@$(BIN)/python -m coverage run -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(TESTS); status=$$?; \
	$(BIN)/python -m coverage combine -q && $(BIN)/python -m coverage report --sort=-miss | tee build/coverage/modules.txt; \
	exit $$status

# A dataset of your own and its fake: make contract DATASET=wrist-fractures DATASETS=examples/datasets
contract: $(VENV)/.dev  ## what DATASET, declared in the folder DATASETS, keeps of the contract, and what it lacks
	@SCANMILL_DATASETS='$(DATASETS)' $(BIN)/scanmill datasets '$(DATASET)' >/dev/null
	@SCANMILL_DATASETS='$(DATASETS)' $(BIN)/python -m pytest -q --no-header -p no:cacheprovider tests/test_contract.py -k '[$(DATASET)]'

check: lint test  ## format, lint, types and tests

lint: $(VENV)/.dev  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev  ## put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Other tools are measured where PEERS names Pythons that have them; BENCH is for options: make bench BENCH='--rows verify'
bench: $(VENV)/.dev  ## speed beside a bare loop, and beside PEERS=/path/to/python; writes bench-results/
	$(BIN)/python -m tests.bench $(PEERS:%=--peers %) $(BENCH)

# Options, say one round once more: make torture TORTURE='--scenes prepare --faults "power cut" --seed 17 --rounds 1'
torture: $(VENV)/.dev  ## break runs on purpose (kills, power cuts, full disks, …), and see that nothing is lost
	$(BIN)/python -m tests.torture $(TORTURE)

audit:  ## known vulnerabilities of the pinned packages, by pip-audit; asks pypi.org
	@test -x $(VENV)-audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/pip install -qq pip-audit; }
	$(VENV)-audit/bin/pip-audit --no-deps --disable-pip -r constraints.txt

clean:  ## remove what make has made, data of the demo included
	rm -rf $(VENV) $(VENV)-audit scanmill-demo bench-results fuzz-failures build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
