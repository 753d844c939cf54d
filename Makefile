# Two commands: `make run` and `make test`. Each sets up .venv by itself with plain venv and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: run test lint types bench lock clean

$(VENV)/.run-ready: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock 1>&2
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . 1>&2
	touch $@

$(VENV)/.test-ready: $(VENV)/.run-ready requirements-test.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-test.lock 1>&2
	touch $@

run: $(VENV)/.run-ready
	@exec $(BIN)/helios up $(ARGS)

# What needs no cluster runs two at a time; desks, browsers and soaks one after the other, for each wants the machine for itself.
ALONE := ray or browser or alone
test: $(VENV)/.test-ready
ifeq ($(strip $(ARGS)),)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not ($(ALONE))"
	$(BIN)/python -m pytest -m "$(ALONE)"
else
	$(BIN)/python -m pytest $(ARGS)
endif

lint: $(VENV)/.test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test-ready
	$(BIN)/mypy

bench: $(VENV)/.test-ready
	$(BIN)/helios bench $(ARGS)

# Resolve the declared ranges afresh and write both locks.
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --upgrade pip
	build/lock/bin/python -m pip install --quiet .
	build/lock/bin/python -m pip freeze --exclude helios-trading --exclude-editable | sed -e '/ @ /d' -e 's/+cpu$$//' > requirements.lock
	build/lock/bin/python -m pip install --quiet '.[test]'
	build/lock/bin/python -m pip freeze --exclude helios-trading --exclude-editable | sed -e '/ @ /d' -e 's/+cpu$$//' > requirements-test.lock
	rm -rf build/lock

clean:
	rm -rf $(VENV) build dist *.egg-info
