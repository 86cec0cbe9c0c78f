# make run    serve the demo of conf/demo.toml on http://127.0.0.1:8000/, in the foreground
# make test   ruff, mypy and every test, three at a time (PROCESSES=0: one after the other); make unit: without the
#             tests of the running server
# make faults  the faults of tests/live/README.md that take minutes
# make fuzz   mutated requests and the property tests, in turns: make fuzz MINUTES=10 SEED=7 JOBS=2
# make bench  the measurements of docs/performance.md, beside other servers: make bench ARGS=--list
# make profile  the worker's system calls per request
# make crowds  crowds of hostile clients, and how long others wait meanwhile: make crowds MINUTES=10
# make soak   random faults under load; nothing may be lost, nothing left: make soak MINUTES=10 SEED=7
# make docs   write docs/config.md with its JSON Schema, and docs/conformance.md, anew
# make clean  remove what all these made
#
# Everything is installed into .venv.  Another Python: make PYTHON=python3.13 VENV=/tmp/venv13 test
# Arguments for pytest or the bench: make test ARGS="-k listing -x"

PYTHON  ?= python3
VENV    ?= .venv
MINUTES ?= 1
SEED    ?=
JOBS    ?= 1
PROCESSES ?= 3
ARGS    ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest -p no:cacheprovider

# A virtual environment holds absolute paths: one that came with a moved or copied clone is made anew.
MOVED := $(if $(filter-out $(CURDIR),$(shell cat $(VENV)/.clone 2>/dev/null)),moved)

.PHONY: run test unit faults fuzz bench profile crowds soak docs clean moved

run: $(VENV)/.installed
	@conf/run-demo $(BIN)/httpd

# ruff and mypy are tests among the others: tests/unit/test_style.py.
test: $(VENV)/.installed-test
	$(PYTEST) -n '$(PROCESSES)' --dist loadfile tests --ignore=tests/bench --ignore=tests/faults $(ARGS)

unit: $(VENV)/.installed-test
	$(PYTEST) -n '$(PROCESSES)' --dist loadfile tests/unit $(ARGS)

faults: $(VENV)/.installed-test
	$(PYTEST) tests/faults $(ARGS)

fuzz: $(VENV)/.installed-test
	@PYTHONPATH=tests $(BIN)/python -m fuzz --minutes '$(MINUTES)' --seed '$(SEED)' --jobs '$(JOBS)' $(ARGS)

bench: $(VENV)/.installed $(VENV)/bench/.installed
	$(BIN)/python tests/bench $(ARGS)

profile: $(VENV)/.installed
	$(BIN)/python tests/bench --profile $(ARGS)

crowds: $(VENV)/.installed-test
	PYTHONPATH=daemon:tests $(BIN)/python tests/soak/crowds.py --minutes '$(MINUTES)' $(ARGS)

soak: $(VENV)/.installed-test
	@PYTHONPATH=daemon:tests $(BIN)/python tests/soak/faults.py --minutes '$(MINUTES)' --seed '$(SEED)' $(ARGS)

docs: $(VENV)/.installed
	$(BIN)/python -m httpd.config.reference docs
	PYTHONPATH=tests $(BIN)/python -m corpus.requests.table docs

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

# The Python servers to compare with.  One that can't be installed is left out, and tried again the next time.
$(VENV)/bench/.installed: tests/bench/requirements.txt $(VENV)/.clone
	@$(PYTHON) -m venv $(VENV)/bench
	@all=yes; for package in $$(grep -v '^#' $<); do \
	  $(VENV)/bench/bin/python -m pip --disable-pip-version-check --quiet install "$$package" || all=; \
	done; [ -z "$$all" ] || touch $@
