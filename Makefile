# The two commands of the README are `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: install install-dev quickstart test check fast faults bench clean

install: $(VENV)/.installed-eval
install-dev: $(VENV)/.installed-dev

$(VENV)/.installed-%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$*]'
	touch $@

quickstart: install
	$(BIN)/crlft run jobs/configs/quickstart.yaml

check: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fast: install-dev
	$(BIN)/pytest -m "not slow"

test: check
	$(BIN)/pytest -m "not long"

# Every fault at every place; `make test` has a part of them.
faults: install-dev
	$(BIN)/pytest tests/faults

bench: install-dev
	for script in tests/benchmarks/[a-z]*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) build dist *.egg-info
