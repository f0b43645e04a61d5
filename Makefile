# Each target sets the machine up by itself; the second time is quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install test lint unit pages demo demo-quick clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

lint: $(STAMP)
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

unit: $(STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test: lint unit

pages: $(STAMP)
	$(BIN)/python benchmarks/make_pages.py

demo: $(STAMP)
	$(BIN)/voxgraft demo

demo-quick: $(STAMP)
	$(BIN)/voxgraft demo --quick

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
