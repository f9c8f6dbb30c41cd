# The only task runner. `make` without a target says what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ROWS ?= 1000000
SYSTEM_PACKAGES := pgloader nginx openssl
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup setup-system demo test check format lock bench bench-service clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | sort | expand -t 16

setup: $(STAMP)  ## Prepare .venv with the locked dependencies and smsctl

$(STAMP): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "This Python lacks venv: install it (Debian: apt-get install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

setup-system:  ## Install programs that Python cannot bring (Debian, as root)
	apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $(SYSTEM_PACKAGES)

demo: setup  ## Everything at once on synthetic data (ROWS=…, SOURCE=/their/numeros.db, EXIT=1)
	$(BIN)/smsctl demo --rows $(ROWS) $(if $(SOURCE),--source "$(SOURCE)") $(if $(EXIT),--exit)

test: setup  ## The tests, on servers of their own
	$(BIN)/python -m pytest -n 2 --dist loadgroup -q

check: setup  ## Format, lint, types, import contracts, schema drift
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry app
	$(BIN)/vulture app --min-confidence 90
	$(BIN)/python -m tests.schema_drift

format: setup  ## Rewrite the code in the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: setup  ## Pin the dependencies anew
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet pyproject.toml --output-file requirements.txt
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet --extra dev pyproject.toml --output-file requirements-dev.txt

bench: setup  ## Measure the migration against its floors (about ten minutes)
	$(BIN)/python -m benchmarks.migration

bench-service: setup  ## Measure the API: latency at 200 requests/s, throughput beside a bare route (about two minutes)
	$(BIN)/python -m benchmarks.service

clean:  ## Remove caches; data stays (smsctl down --purge removes it)
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
