# The two commands: make run, make test. Both set up what they need in .venv.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready

.PHONY: run test check clean

run: $(READY)
	$(VENV)/bin/python train.py

test: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $(READY)

clean:
	rm -rf $(VENV) outputs .pytest_cache .ruff_cache .mypy_cache *.egg-info
