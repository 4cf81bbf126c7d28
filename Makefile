# `make` alone explains the targets. The environment is built once into .venv from the hashed locks.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/uv pip install --python .venv --require-hashes --no-build-isolation --compile-bytecode
.DEFAULT_GOAL := help

.PHONY: help
help:  ## Explain the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

# The build tools first (uv itself among them), then the desk, then our own package without dependencies.
.venv/.tools: requirements-build.lock
	@echo "Making the environment in .venv (about a minute, once)"
	@$(PYTHON) -m venv .venv || { echo "Python's venv module is missing: install it (Debian: apt-get install python3-venv)"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-build.lock
	@touch $@

.venv/.desk: .venv/.tools requirements.lock pyproject.toml
	@$(INSTALL) -r requirements.lock
	@$(BIN)/uv pip install --quiet --python .venv --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q mlt_lib
	@$(BIN)/python -c "import matplotlib.font_manager"
	@touch $@

.venv/.dev: .venv/.desk requirements-dev.lock
	@$(INSTALL) -r requirements-dev.lock
	@touch $@

.venv/.sources: .venv/.desk requirements-sources.lock
	@$(INSTALL) -r requirements-sources.lock
	@touch $@

.venv/.soak: .venv/.dev requirements-soak.lock
	@$(INSTALL) -r requirements-soak.lock
	@touch $@

.PHONY: env
env: .venv/.desk  ## Make the environment only

.PHONY: daily
daily: .venv/.desk  ## One trading day on bundled real prices; ends by printing where the report is
	@$(BIN)/mlt daily

.PHONY: replay
replay: .venv/.desk  ## The daily cycle over the last 20 sessions in a book of its own
	@$(BIN)/mlt replay --sessions 20

.PHONY: test
test: .venv/.dev  ## The test suite (10 minutes at most on 2 cores)
	@$(BIN)/python -m pytest

.PHONY: notebooks
notebooks: .venv/.dev  ## Run every notebook: the lessons by nbdev, the jobs by the runner
	@$(BIN)/nbdev-test --n-workers 2
	@$(BIN)/python tests/run_jobs.py

.PHONY: check
check: .venv/.dev  ## Format, lint, types, floors, and that notebooks and library agree
	@$(BIN)/ruff format --check nbs tests deploy
	@$(BIN)/ruff check nbs tests deploy
	@$(BIN)/mypy mlt_lib
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest tests/test_notebooks.py

.PHONY: export
export: .venv/.dev  ## After editing notebooks: format, clean, export the library, make the README
	@$(BIN)/ruff format -q nbs tests deploy
	@$(BIN)/nbdev-clean
	@$(BIN)/nbdev-export
	@$(BIN)/python docs/readme.py

.PHONY: services
services:  ## PostgreSQL and TimescaleDB on loopback, for the tests of the store
	@$(PYTHON) deploy/services/up.py

.PHONY: services-stop
services-stop:  ## Stop them and throw their data away
	@$(PYTHON) deploy/services/down.py

.PHONY: lab
lab: .venv/.desk  ## JupyterLab on the notebooks
	@$(BIN)/mlt lab

.PHONY: sources
sources: .venv/.sources  ## Add the clients of the sources that are extras: yahoo, reddit

.PHONY: bench
bench: .venv/.dev  ## Measure the figures of the docs and write them to docs/figures
	@for bench in tests/performance/bench_*.py; do $(BIN)/python $$bench || exit 1; done

.PHONY: soak
soak: .venv/.soak services  ## Hours: 100 killed databases, every parser fuzzed for 10 minutes or more
	@MLT_REQUIRE_SERVICES=1 MLT_TEST_KILLS=100 $(BIN)/python -m pytest -n 0 --timeout 14400 tests/store/test_store_kill.py
	@$(BIN)/python tests/soak/fuzz.py --seconds 600

.PHONY: secrets
secrets:  ## Random passwords for docker compose in .secrets; those that are there stay
	@install -d -m 700 .secrets
	@for name in admin_password migrator_password writer_password reader_password lab_token; do \
	  test -s .secrets/$$name || $(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(32))' > .secrets/$$name; \
	done; chmod 444 .secrets/*
	@echo "in .secrets, a folder that only you can enter; next: MLT_SECRETS=.secrets docker compose up --build"

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
.PHONY: lock
lock: .venv/.tools  ## Resolve the dependencies anew (hashes, no host)
	@$(LOCK) pyproject.toml -o requirements.lock
	@$(LOCK) pyproject.toml --extra yahoo --extra reddit -c requirements.lock -o requirements-sources.lock
	@$(LOCK) pyproject.toml --extra dev --extra yahoo --extra reddit -c requirements.lock -o requirements-dev.lock
	@$(LOCK) pyproject.toml --extra soak --extra yahoo --extra reddit -c requirements-dev.lock -o requirements-soak.lock
	@$(LOCK) requirements-build.in -c requirements.lock -o requirements-build.lock

.PHONY: clean
clean: services-stop  ## Remove the environment, the desk's state and the reports
	rm -rf .services .venv .mlt draft $(filter-out reports/sample,$(wildcard reports/*))
