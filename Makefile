# `make help` lists the targets. Each of them first brings .venv up to date, and does nothing when it is.

VENV := .venv
BIN := $(VENV)/bin
# Inside .venv, so that deleting the folder also forgets that it was filled.
STAMP := $(VENV)/.filled
# For example: make test PYTESTFLAGS='-n auto -k quantize'
PYTESTFLAGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check check-long bench accuracy docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(STAMP) ## train the two examples: digits on a hundred phones, five hospitals
	$(BIN)/tacit run examples/digits.py
	$(BIN)/tacit run examples/hospitals.py

test: $(STAMP) ## run the tests that are not slow
	.ci/ensure-browser
	$(BIN)/pytest -m "not slow" $(PYTESTFLAGS)

# pytest comes last: the cheap checks fail first, and its summary ends the log.
check: $(STAMP) ## format, lint, types, layers, docs, tests and coverage: what has to hold before a merge
	.ci/ensure-browser
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy --strict
	$(BIN)/lint-imports
	$(BIN)/sphinx-build -q -W --keep-going -E -b html docs docs/_build
	$(BIN)/pytest -m "not slow" -n auto --cov --cov-report=term $(PYTESTFLAGS)

check-long: $(STAMP) ## run every test, the slow ones too
	.ci/ensure-browser
	$(BIN)/pytest $(PYTESTFLAGS)

bench: $(STAMP) ## run every benchmark and write benchmarks/results/
	$(BIN)/python -m benchmarks

accuracy: $(STAMP) ## train to the accuracies that the docs quote
	$(BIN)/python -m benchmarks.accuracy

docs: $(STAMP) ## build the documentation in docs/_build
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build

clean: ## remove what checks and builds leave behind (not .venv, not run folders)
	rm -rf build dist docs/_build htmlcov .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# torch first: it is the largest by far, so a failed download says so before anything else is fetched.
$(STAMP): pyproject.toml constraints.txt
	.ci/make-venv $(VENV)
	@echo 'filling $(VENV), which takes minutes the first time'
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt torch
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	@touch $@
