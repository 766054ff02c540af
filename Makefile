# Everything a newcomer needs. `make` alone lists it.

PYTHON ?= python3
BIN := .venv/bin

# A process for each core, four at most: each starts servers of its own. The tests of a file stay together. What was compiled is
# kept for the next process, of which the tests start hundreds.
PYTEST = $(BIN)/pytest -q -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
quick test nightly: export PYTHONDONTWRITEBYTECODE :=
.PHONY: help report picture quick test nightly lab bench calibrate lint docs format clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

report: .venv/.installed  ## replay, simulate and recommend: reports/quickstart/report.html
	$(BIN)/ratesim report --scenario quickstart --out reports/quickstart

picture: .venv/.installed  ## the README's picture, of the report that `make report` wrote
	$(BIN)/python tests/pages/picture.py reports/quickstart/report.html docs/report.png

quick: .venv/.installed  ## the unit tests, with few examples: no server, no notebook, no browser
	$(PYTEST) -m "unit and not slow and not nightly" --hypothesis-profile=dev

test: .venv/.installed  ## everything that must hold before a merge
	$(PYTEST) -m "not nightly"

nightly: .venv/.installed  ## every test at full size: a million operations on each twin, ten thousand histories of faults
	$(PYTEST) --hypothesis-profile=nightly

lab: .venv/.installed  ## JupyterLab on the notebooks, with servers running
	$(BIN)/ratesim lab

bench: .venv/.installed-bench  ## measure ratesim beside other limiters
	$(BIN)/ratesim bench

calibrate: .venv/.installed  ## measure the storages on this machine, for the simulation to use
	$(BIN)/ratesim calibrate

lint: .venv/.installed  ## style, formatting, types, the order of imports, and pages that are generated
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python docs/write_modules.py --check
	$(BIN)/python docs/write_guarantees.py --check
	$(BIN)/python docs/write_schemas.py --check

docs: .venv/.installed  ## write docs/modules.md from the docstrings, docs/guarantees.md from its table, and the schemas
	$(BIN)/python docs/write_modules.py
	$(BIN)/python docs/write_guarantees.py
	$(BIN)/python docs/write_schemas.py

format: .venv/.installed  ## repair what lint can repair itself
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

clean:  ## remove the environment, caches and fresh reports
	rm -rf .venv build dist *.egg-info .grimp_cache .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find ratesim traffic tests -name __pycache__ -prune -exec rm -rf {} +
	find reports -mindepth 1 -maxdepth 1 ! -name README.md ! -name reference -exec rm -rf {} +

# The stamps are younger than an installation that is complete.

.venv/.installed: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not here: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "ratesim needs Python 3.11 or newer and $(PYTHON) is %d.%d: make PYTHON=/path/to/python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -e ".[embedded,distributed,dev]"
	$(BIN)/ratesim compile
	@touch $@

.venv/.installed-bench: .venv/.installed
	$(BIN)/pip install -q --disable-pip-version-check -e ".[bench]"
	@touch $@
