# The two commands of the README are `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: install install-dev quickstart test check audit fast faults cluster-tests plan-tests bench ablation-full clean

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
	$(BIN)/pip check
	git ls-files -z --cached --others --exclude-standard | \
		xargs -0 $(BIN)/detect-secrets-hook --no-verify --baseline .secrets.baseline

# Known vulnerabilities of the pinned versions. Needs the package index's own service (a mirror has none); --strict,
# because without it whatever the service does not know would count as sound.
audit: $(VENV)/.installed-audit
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

fast: install-dev
	$(BIN)/pytest -m "not slow"

test: check
	$(BIN)/pytest -m "not long"

# Every fault at every place; `make test` has a part of them.
faults: install-dev
	$(BIN)/pytest tests/faults

# Hosts made of network namespaces: needs root and iproute2, and a Redis and PostgreSQL for some; says so where not.
cluster-tests: install-dev
	$(BIN)/pytest tests/cluster tests/diagnosis -rs

# A plan's figures against those of real engines.
plan-tests: install-dev
	$(BIN)/pytest tests/planning

bench: install-dev
	failed=; for script in tests/benchmarks/[a-z]*.py "tests/benchmarks/train.py --data short"; do \
		$(BIN)/python $$script || failed="$$failed $$script"; done; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

# Five seeds and every further row of the ablation; hours. It goes on where it was stopped.
ablation-full: install
	$(BIN)/crlft study ablation --seeds 5 --further --output runs/ablation-full

clean:
	rm -rf $(VENV) build dist *.egg-info
