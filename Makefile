# The commands of the house. Everything runs from .venv, which `make venv`
# builds with nothing but python3 (3.11 to 3.13), its pip and its venv module.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready

.PHONY: demo test venv lint proto bench coverage sim mutants clean

demo: venv
	$(BIN)/vecdb demo

test: venv
	$(BIN)/python -m pytest

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("vecdb needs Python 3.11 to 3.13, this is %d.%d" % sys.version_info[:2] if not (3, 11) <= sys.version_info[:2] <= (3, 13) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[server,dev]'
	touch $(STAMP)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

proto: venv
	$(BIN)/python proto/generate.py

# Simulated clusters under faults, for half an hour on two cores (docs/consistency.md).
sim: venv
	$(BIN)/python -m tests.sim --minutes 30 --processes 2

# One-line bugs, each of which a test or the simulator has to notice.
mutants: venv
	$(BIN)/python -m tests.mutants

coverage: venv
	$(BIN)/python -m pytest --cov --cov-report=term-missing

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
