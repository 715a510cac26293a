# Needs make and Python 3.11 or newer with its venv module; nothing else.
VENV ?= .venv
PYTHON ?= python3
WORKERS ?= auto
BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run test lint types fast notebooks docs long slow clean

run: $(VENV)/.installed  ## sets up, then runs the main job
	$(BIN)/gacf run experiments/ring_gan.py

test: lint types fast notebooks  ## sets up, then lint, types, quick tests, notebooks

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/pyright --pythonpath $(BIN)/python

fast: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(WORKERS) -m "not long and not slow"

notebooks: $(VENV)/.installed-dev
	if ls notebooks/*.ipynb >/dev/null 2>&1; then \
	    $(BIN)/python -m pytest -n $(WORKERS) --nbmake notebooks/*.ipynb; fi

docs: $(VENV)/.installed-docs  ## builds the site into site/; a broken link or reference fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

long: $(VENV)/.installed-dev  ## the second tier: devices, processes, executors, fuzzing, matrices
	$(BIN)/python -m pytest -n $(WORKERS) -m "long and not slow"

slow: $(VENV)/.installed-dev  ## the tests that train at length
	XLA_FLAGS="$(XLA_FLAGS) --xla_backend_optimization_level=3" \
	    $(BIN)/python -m pytest -n $(WORKERS) -m slow

clean:  ## removes the environment and all caches; keeps runs/
	rm -rf $(VENV) build dist site .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(INSTALL) -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml constraints.txt
	$(INSTALL) -e '.[dev]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: $(VENV)/.created pyproject.toml constraints.txt
	$(INSTALL) -e '.[docs]'
	touch $@ $(VENV)/.installed
