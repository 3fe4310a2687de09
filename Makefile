# make setup | sweep | tables | test | test-fast | lint     (PYTHON=... names the interpreter)
VENV ?= .venv
ARGS ?=
INSTALLED = $(VENV)/.installed
# A process a core; each takes whole files, whose tests share what they set up.
PYTEST = $(VENV)/bin/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

.PHONY: setup sweep tables test test-fast lint

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml scripts/setup.sh constraints/py310.txt constraints/py312.txt
	@scripts/setup.sh $(VENV)

sweep: $(INSTALLED)
	$(VENV)/bin/python -m experiments.sweep $(ARGS)

tables: $(INSTALLED)
	$(VENV)/bin/python -m experiments.tables $(ARGS)

test: $(INSTALLED)
	$(PYTEST) $(ARGS)

test-fast: $(INSTALLED)
	$(PYTEST) -m "not slow" $(ARGS)

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
