# make run trains, make quick checks within a minute, make test checks everything. Each sets up what it needs in .venv.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
PYTEST := $(VENV)/bin/python -m pytest -n 2 --dist worksteal

.PHONY: run quick test clean

run: $(READY)
	$(VENV)/bin/python train.py

quick: $(READY)
	$(VENV)/bin/ruff check .
	$(PYTEST) -m "not slow"

test: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(PYTEST)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $(READY)

clean:
	rm -rf $(VENV) outputs .pytest_cache .ruff_cache .mypy_cache *.egg-info
