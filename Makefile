# The verbs of this project; CI runs the same ones. Each sets up what it needs in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-long lint clean

demo: $(VENV)/.installed
	$(BIN)/lookalike demo $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not long" -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

test-long: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m long -s $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(f"lookalike needs Python 3.11 or newer, but {sys.executable} is {sys.version.split()[0]}; name another with make PYTHON=…" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "Installing lookalike and what it needs into $(VENV); this takes some minutes the first time."
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	@echo "Installing lookalike and its tests' needs into $(VENV); this takes some minutes the first time."
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
