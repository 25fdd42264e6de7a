# `make demo` and `make test` set up a new machine and do everything. They need Python 3.10 or newer and nothing else.
PYTHON ?= python3
BIN := .venv/bin

VERSIONS ?=
# Test files run in parallel, since they mostly wait; more than four real Airflows at once would run out of memory. Not those with the most
# tests first: they are the quickest, and at the end one process would be busy with a real Airflow for minutes, and the others with nothing.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help demo test integration matrix security package docs screenshots bench lint format clean

help:
	@echo "make demo         a real Airflow runs real DAGs against a laptop stand-in for AWS and Redshift (about two minutes)"
	@echo "make test         the test suite; the unit tests alone: $(BIN)/python -m pytest tests/unit -m 'not airflow'"
	@echo "make integration  a real Airflow in each topology, including tests that take minutes"
	@echo "make matrix       the integration suite with each Airflow from 2.11 on; VERSIONS=\"lowest 3.3\" selects some, 3.3.1=FILE is under constraints"
	@echo "make security     attempts to get at passwords in the ways of docs/security.md, and prints what became of each"
	@echo "make package      makes dist/ (wheel, sdist, bill of materials), and tries the wheel in an environment of its own"
	@echo "make docs         writes the tables in docs/ and the texts of COMMAND --help, which tests generate"
	@echo "make screenshots  takes the pictures of the page in Airflow that are in the README"
	@echo "make bench        compares this backend with others (about a quarter of an hour)"
	@echo "make lint         ruff, mypy and import-linter"
	@echo "make format       fixes what ruff can fix"
	@echo "make clean        removes what these made"

demo: .demo-environment
	@$(BIN)/python -m examples

test: .test-environment
	@echo "==> Running the tests"
	@$(BIN)/python -m pytest -m "not heavy" $(PARALLEL)

integration: .test-environment
	@echo "==> Running the tests with a real Airflow, including those that take minutes"
	@$(BIN)/python -m pytest tests/integration --durations 0

matrix: .test-environment
	@$(BIN)/python -m tests.support.matrix $(VERSIONS)

security: .test-environment
	@echo "==> Attempting to get at passwords"
	@$(BIN)/python -m pytest --attempts -m "not heavy" $(PARALLEL)

package: .test-environment
	@$(BIN)/python -m pytest tests/integration/clean_install.py

docs: .test-environment
	@$(BIN)/python -m pytest --write-tables tests/e2e/clients tests/integration/test_refusals.py \
		tests/integration/test_nothing_printed.py tests/unit/cli/test_help.py

screenshots: .test-environment
	@$(BIN)/python -m tests.integration.web.screenshots

bench: .test-environment
	@$(BIN)/python -m bench --write docs/performance.md

lint: .test-environment
	@echo "==> Linting"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: .test-environment
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# Quick when nothing has to be installed. The test environment contains the demo's.
.PHONY: .demo-environment .test-environment
.demo-environment .test-environment:
	@$(PYTHON) -m tests.support.environments $(patsubst .%-environment,%,$@)

clean:
	rm -rf dist .venv .venvs .venv.lock .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
