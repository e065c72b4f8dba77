# Two commands do everything on a machine that has Python 3.11 or newer and nothing else:
#   make demo    draws pictures, trains on them for two minutes, measures, predicts
#   make test    lint, types, tests

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types unit docs clean

demo: $(VENV)/installed
	$(BIN)/intarsia demo --out demo

test: lint types unit

lint: $(VENV)/installed
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks

types: $(VENV)/installed
	$(BIN)/mypy

# Two processes, each with files of tests of its own and one thread for arithmetic.
unit: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

docs: $(VENV)/installed
	$(BIN)/pip install --quiet -e '.[docs]'
	$(BIN)/mkdocs build --strict

# The file's date says when the environment last matched pyproject.toml.
$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo site build dist
