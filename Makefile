# Needs Python 3.11 or newer, make and git; everything else goes into $(VENV).

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=

.DEFAULT_GOAL := help
.PHONY: help demo serve test lint clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '%-14s %s\n' "$$name" "$$text"; done

demo: $(VENV)/.installed ## Place 50 orders, kill the worker half-way, see that nothing is lost
	@$(BIN)/python -m example_project.demo

serve: $(VENV)/.installed ## Run the example shop with its admin and a worker; Ctrl-C stops it
	@$(BIN)/python -m example_project.serve

test: $(VENV)/.installed-dev ## All checks, then all tests on SQLite, on PostgreSQL if it answers, and on MariaDB if it is named
	@$(BIN)/python -m tests.run

lint: $(VENV)/.installed-dev ## The checks without the tests
	@$(BIN)/python -m tests.run --lint

clean: ## Remove everything that make made
	rm -rf $(VENV) .demo .tox .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A command can exist and still not run (version managers leave such stubs), so each one is tried.
$(BIN)/python:
	@for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11 python; do \
	  if $$candidate -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    echo "Making $(VENV) with $$($$candidate --version)"; \
	    exec $$candidate -m venv $(VENV); \
	  fi; \
	done; \
	echo "No Python >= 3.11 with venv found (on Debian and Ubuntu: apt install python3-venv)." >&2; \
	echo "Name one: make PYTHON=/path/to/python3.12 ..." >&2; \
	exit 1

# The order-only prerequisite: installing touches the interpreter's directory, which must not cause another install.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing django_durable (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "Installing django_durable with its development tools (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.installed
