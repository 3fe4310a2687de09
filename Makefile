# make setup | sweep | tables | test | test-fast | lint | docs   (PYTHON=... names the interpreter)
VENV ?= .venv
ARGS ?=
INSTALLED = $(VENV)/.installed
# A process a core; each takes whole files, whose tests share what they set up.
PYTEST = $(VENV)/bin/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

.PHONY: setup sweep tables test test-fast lint docs

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

# Notebooks are run; ARGS="-D nb_execution_mode=off" leaves that out.
docs: $(VENV)/.installed-docs
	$(VENV)/bin/python -m sphinx --builder=html --fail-on-warning --keep-going --quiet $(ARGS) \
		docs docs/_build/html
	@echo "written to docs/_build/html/index.html"

$(VENV)/.installed-docs: $(INSTALLED) docs/requirements.txt
	$(VENV)/bin/python -m pip --disable-pip-version-check install --quiet --requirement docs/requirements.txt
	@touch $@
