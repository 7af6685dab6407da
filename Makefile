# minikubelet: what one types. Everything that a target needs on a fresh Debian or Ubuntu machine it installs itself.
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
SETUP := .ci/setup

.PHONY: help run test unit integration e2e chaos conformance bench lint typecheck format docs check install uninstall clean

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: $(VENV)/.run  ## run the pods in manifests/ until Ctrl-C, then remove everything
	$(BIN)/minikubelet run --standalone manifests

test: $(VENV)/.dev  ## install what the tests need and run all of them
	$(BIN)/python -m pytest -n 4 --dist loadfile

unit: $(VENV)/.dev  ## run the tests that need no root
	$(BIN)/python -m pytest tests/unit

integration: $(VENV)/.dev  ## run the tests with real namespaces and processes, as root
	$(BIN)/python -m pytest tests/integration

e2e: $(VENV)/.dev  ## run real programs as pods, as root
	$(BIN)/python -m pytest tests/e2e

conformance: $(VENV)/.dev  ## run the rows of Kubernetes' own tests and write docs/conformance.md, as root
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m conformance --conformance-report=docs/conformance.md

chaos: $(VENV)/.dev  ## kill and edit at random for a minute, as root: CHAOS_SECONDS=600 SEED=1 for more
	$(BIN)/python -m tests.chaos --seconds $(or $(CHAOS_SECONDS),60) $(if $(SEED),--seed $(SEED))

bench: $(VENV)/.dev  ## measure on this machine, beside the bare kernel and installed peers, as root
	$(BIN)/python -m tests.bench --json bench.json --svg bench.svg

lint: $(VENV)/.dev  ## check style and import floors
	$(BIN)/ruff check minikubelet tests && $(BIN)/ruff format --check minikubelet tests && $(BIN)/lint-imports

typecheck: $(VENV)/.dev  ## check types strictly
	$(BIN)/mypy

format: $(VENV)/.dev  ## format the code
	$(BIN)/ruff format minikubelet tests

docs: $(VENV)/.dev  ## write the parts of docs/ that the code knows
	$(BIN)/python docs/generate.py

check: lint typecheck test  ## all that CI runs

install:  ## install under PREFIX (default /usr/local) with the systemd unit
	systemd/install

uninstall:  ## remove what install put there
	systemd/install --remove

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

$(VENV)/.run: pyproject.toml .ci/requirements.txt
	$(SETUP) run

$(VENV)/.dev: pyproject.toml .ci/requirements.txt
	$(SETUP) dev
