# Everything a newcomer needs: `make demo` runs the reference, `make test` every check.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
# Another index for PyTorch, for example one that carries only CPU builds:
#   make demo TORCH_INDEX=<address of the index>
TORCH_INDEX ?=
TORCH := torch==2.13.0
TORCH_FROM := $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX),)
DEMO_ARGS ?=
# Idle OpenMP threads spin only briefly: much faster where cores are shared, and on an idle machine
# a third faster than threads that sleep at once.
export GOMP_SPINCOUNT ?= 50000
PYTEST_ARGS ?=
# Seconds of coverage-guided fuzzing for each reader of uploads.
FUZZ_SECONDS ?= 120
FUZZ_ARGS ?=
CHAOS_ARGS ?=

.PHONY: help demo quick setup setup-dev tensorflow vendor sandbox check test chaos bench fuzz clean

help:
	@echo "make demo        set up and run the MNIST reference (DEMO_ARGS=... are passed on)"
	@echo "make quick       the same on small data, in a minute or two"
	@echo "make test        set up and run every check"
	@echo "make chaos       a hundred kills of workers and server while jobs run (CHAOS_ARGS=...)"
	@echo "make check       formatting, lint, types, import directions"
	@echo "make sandbox     install bubblewrap, which runs models that carry code"
	@echo "make bench       benchmarks, each against a peer in the same run"
	@echo "make fuzz        long fuzzing of readers and HTTP (FUZZ_SECONDS=... for each reader)"
	@echo "make clean       remove the environments"

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed: install it, or say make PYTHON=/path/to/python"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing Modelward into $(VENV) (a few minutes, once)"
	$(BIN)/python $(PIP_INSTALL) $(TORCH_FROM) $(TORCH)
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e ".[server,mlflow]"
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e ".[all,dev]"
	@touch $@

$(VENV)/.fuzz: $(VENV)/.dev
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e ".[fuzz]"
	@touch $@

# TensorFlow lives apart: it is large, and only checks of file compatibility need it.
.venv-tf/.done: constraints-tensorflow.txt
	@command -v $(PYTHON) >/dev/null
	$(PYTHON) -m venv .venv-tf
	.venv-tf/bin/python $(PIP_INSTALL) -r constraints-tensorflow.txt
	@touch $@

# The vendor's client installs a package named "tests", so it lives apart too.
.venv-vendor/.done: Makefile
	$(PYTHON) -m venv .venv-vendor
	.venv-vendor/bin/python $(PIP_INSTALL) aishield==0.1.7
	@touch $@

setup: $(VENV)/.run
setup-dev: $(VENV)/.dev
tensorflow: .venv-tf/.done
vendor: .venv-vendor/.done

# Models that carry code need bubblewrap; everything else works without it.
sandbox:
	@if command -v bwrap >/dev/null; then echo "bubblewrap is there: $$(bwrap --version)"; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get install -y --no-install-recommends bubblewrap \
		|| { apt-get update && apt-get install -y --no-install-recommends bubblewrap; } \
		|| echo "bubblewrap could not be installed; models that carry code will be refused"; \
	else echo "bubblewrap is missing: install it as root (Debian, Ubuntu: apt-get install bubblewrap); until then models that carry code are refused and their tests skipped"; fi

demo: setup
	$(BIN)/modelward demo mnist $(DEMO_ARGS)

quick: setup
	$(BIN)/modelward demo mnist --quick $(DEMO_ARGS)

check: setup-dev
	$(BIN)/ruff check src tests benchmarks tools
	$(BIN)/ruff format --check src tests benchmarks tools
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: setup-dev tensorflow vendor sandbox check
	MODELWARD_REQUIRE_ENVS=1 $(if $(CI),MODELWARD_REQUIRE_SANDBOX=1) $(BIN)/pytest $(PYTEST_ARGS)

chaos: setup-dev
	$(BIN)/python tests/chaos/chaos_driver.py $(CHAOS_ARGS)

bench: setup-dev
	@for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file --quick || exit 1; done

# Findings, and how to replay them, are left in the folder fuzz-findings.
fuzz: $(VENV)/.fuzz
	$(BIN)/python tests/fuzz/run.py --seconds $(FUZZ_SECONDS) $(FUZZ_ARGS)

clean:
	rm -rf $(VENV) .venv-tf .venv-vendor
