# The few verbs. `make run` and `make test` set everything up by themselves.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv
SETUP := .venv/.ready
BUNDLES := services/config/built/reporter.js

.PHONY: setup run demo test test-all test-deploy test-cluster image check bench lock format clean

setup: $(SETUP) $(BUNDLES)

$(SETUP): requirements/setup.txt requirements/dev.txt pyproject.toml
	@echo "Setting up .venv (once, under a minute)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/setup.txt
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(BUNDLES): $(wildcard services/config/browser/*) devstack/bundles.py | $(SETUP)
	@echo "Bundling the scripts of pages (once, under a minute)"
	@$(BIN)/python -m devstack.bundles

run: setup ## everything on this machine, until Ctrl-C
	@$(BIN)/keepword up

demo: setup ## the main journey, narrated
	@$(BIN)/keepword demo

check: setup ## style, types, import rules
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

test: check ## what CI runs
	@$(BIN)/pytest -m "not long and not cluster" -n 2 --dist loadfile

test-all: check ## the long series too
	@$(BIN)/pytest

test-deploy: setup ## the image's recipe and the chart alone, without a cluster; part of `make test`
	@$(BIN)/pytest tests/deploy

test-cluster: setup ## on the cluster that KUBECONFIG names: deploy/README.md tells with what
	@$(BIN)/pytest -m cluster tests/cluster $(FLAGS)

image: setup ## the image, by buildah, podman or docker; FLAGS=--from-debian makes its base here
	@deploy/image/build $(FLAGS)

bench: setup ## figures against peers; ONLY=name runs one
	@$(BIN)/python -m bench $(ONLY)

format: setup
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

LOCK := $(UV) pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11

lock: setup ## compile the locks again; they hold hashes and no address
	@$(LOCK) requirements/setup.in -o requirements/setup.txt
	@$(LOCK) pyproject.toml -o requirements/main.txt
	@$(LOCK) -c requirements/main.txt pyproject.toml requirements/dev.in -o requirements/dev.txt

clean:
	@rm -rf .venv .state services/config/built .mypy_cache .ruff_cache .pytest_cache
