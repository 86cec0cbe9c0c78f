# make run    serve the demo of conf/demo.toml on http://127.0.0.1:8000/, in the foreground
# make test   ruff, mypy and every test; make unit: without the tests of the running server
# make fuzz   the property tests over and over: make fuzz MINUTES=10
# make bench  the measurements of docs/performance.md
# make docs   write docs/config.md and its JSON Schema anew
# make clean  remove what all these made
#
# Everything is installed into .venv.  Another Python: make PYTHON=python3.13 VENV=/tmp/venv13 test
# Arguments for pytest or the bench: make test ARGS="-k listing -x"

PYTHON  ?= python3
VENV    ?= .venv
MINUTES ?= 1
ARGS    ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest -p no:cacheprovider

# A virtual environment holds absolute paths: one that came with a moved or copied clone is made anew.
MOVED := $(if $(filter-out $(CURDIR),$(shell cat $(VENV)/.clone 2>/dev/null)),moved)

.PHONY: run test unit fuzz bench docs clean moved

run: $(VENV)/.installed
	@conf/run-demo $(BIN)/httpd

# ruff and mypy are tests among the others: tests/unit/test_style.py.
test: $(VENV)/.installed-test
	$(PYTEST) tests --ignore=tests/bench $(ARGS)

unit: $(VENV)/.installed-test
	$(PYTEST) tests/unit $(ARGS)

fuzz: $(VENV)/.installed-test
	@end=$$(( $$(date +%s) + 60 * $(MINUTES) )); \
	while [ $$(date +%s) -lt $$end ]; do \
	  $(PYTEST) tests/fuzz -q --hypothesis-profile=fuzz $(ARGS) || exit 1; \
	done

bench: $(VENV)/.installed
	$(BIN)/python tests/bench $(ARGS)

docs: $(VENV)/.installed
	$(BIN)/python -m httpd.config.reference docs

clean:
	rm -rf $(VENV) daemon/*.egg-info build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find daemon tests -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.clone: $(MOVED)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "httpd needs Python 3.11 or later, and $(PYTHON) is $$($(PYTHON) --version 2>&1);" \
	    "name another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make a virtual environment;" \
	    "on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "$(CURDIR)" >$@

$(VENV)/.installed: pyproject.toml $(VENV)/.clone
	$(PIP) install -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml $(VENV)/.clone
	$(PIP) install -e '.[test]'
	@touch $@ $(VENV)/.installed
