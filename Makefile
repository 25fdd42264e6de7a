# `make demo` and `make test` set a fresh machine up and do it all. Python 3.10 or newer is all they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Two makes at once must not build one environment together; flock is on every Linux.
LOCK := $(if $(shell command -v flock),flock .venv.lock,)

VERSIONS ?=
# Files at once, for the time that tests wait; more than four real Airflows at once would wait for memory.
SPREAD := --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: help demo test integration matrix package docs bench lint format clean

help:
	@echo "make demo         a real Airflow runs real DAGs on a laptop stand-in for AWS and Redshift (about three minutes)"
	@echo "make test         the test suite"
	@echo "make integration  a real Airflow in each topology, also what takes minutes"
	@echo "make matrix       the integration suite with each Airflow from 2.11 on; VERSIONS=\"2.11 3.3\" names some"
	@echo "make package      builds the wheel and the sdist, and tries the wheel in an environment of its own"
	@echo "make docs         writes the tables of docs/ that tests make"
	@echo "make bench        measures us against the peers (about a quarter of an hour)"
	@echo "make lint         ruff and mypy"
	@echo "make clean        remove what these made"

demo: $(STAMP)
	@$(BIN)/python -m examples.demo

test: $(STAMP)
	@echo "==> Running the tests"
	@$(BIN)/python -m pytest -m "not heavy" $(SPREAD)

integration: $(STAMP)
	@echo "==> Running the tests with a real Airflow, those that take minutes too"
	@$(BIN)/python -m pytest tests/integration --durations 0

matrix: $(STAMP)
	@$(BIN)/python -m tests.support.matrix $(VERSIONS)

package: $(STAMP)
	@$(BIN)/python -m pytest tests/integration/clean_install.py

docs: $(STAMP)
	@$(BIN)/python -m pytest --write-tables tests/e2e/clients tests/integration/test_refusals.py

bench: $(STAMP)
	@$(BIN)/python -m bench --write docs/performance.md

lint: $(STAMP)
	@echo "==> Linting"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

$(STAMP): pyproject.toml Makefile
	@$(LOCK) $(MAKE) --no-print-directory .install

# A target of its own, so that whoever waited for the lock finds the work done.
.PHONY: .install
.install:
	@if [ -f $(STAMP) ] && [ $(STAMP) -nt pyproject.toml ] && [ $(STAMP) -nt Makefile ]; then exit 0; fi; set -e; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "Python 3.10 or newer is needed; name one with: make PYTHON=python3.12 ..."; exit 1; }; \
	echo "==> Making $(VENV) with $$($(PYTHON) --version)"; \
	$(PYTHON) -m venv --clear $(VENV) || { \
		echo "This Python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }; \
	echo "==> Installing Airflow and what we need into $(VENV) (one to five minutes)"; \
	$(BIN)/python -m pip install --quiet --upgrade pip; \
	$(BIN)/python -m pip install --quiet --editable '.[local,redis]' --group test --group clients --group lint; \
	$(PYTHON) -m venv --clear $(VENV)/dbt; \
	$(VENV)/dbt/bin/python -m pip install --quiet --upgrade pip; \
	$(VENV)/dbt/bin/python -m pip install --quiet --group dbt; \
	touch $(STAMP)

clean:
	rm -rf $(VENV) .venvs .venv.lock .pytest_cache .mypy_cache .ruff_cache .hypothesis
