# make setup | sweep | tables | test | test-fast | lint     (PYTHON=... names the interpreter)
VENV ?= .venv
ARGS ?=
INSTALLED = $(VENV)/.installed

.PHONY: setup sweep tables test test-fast lint

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml scripts/setup.sh constraints/py310.txt constraints/py312.txt
	@scripts/setup.sh $(VENV)

sweep: $(INSTALLED)
	$(VENV)/bin/python -m experiments.sweep $(ARGS)

tables: $(INSTALLED)
	$(VENV)/bin/python -m experiments.tables $(ARGS)

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest $(ARGS)

test-fast: $(INSTALLED)
	$(VENV)/bin/python -m pytest -m "not slow" $(ARGS)

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
