# Everything here sets up what it needs by itself: python3 (3.11 or newer) and make are enough.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

# Handed to what the target runs: make demo ARGS=--check, make unit ARGS="-k cookie -n auto"
ARGS ?=

# What `make matrix` runs on: see tests/fix_servers.py
SERVERS ?= redis6 redis7 redis7-tls valkey8 valkey9 sentinel cluster

# What `make near` sets: the staleness in ms of the near cache that all sessions get. Each load waits for some ms, so of
# the 60 stories of the state machine it tells 20, and goes a third as many long walks, of 200 steps each as ever.
NEAR := COATCHECK_TEST_ALL_NEAR=100

PYTHON_BIN := .venv/bin/python

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Run the demo (ARGS=--check: unattended, says whether it works)
	@tools/setup .venv-demo requirements/demo.txt
	.venv-demo/bin/python -m demo $(ARGS)

.PHONY: test
test: check wheel unit near-quick demo-check django6 ## Run all of it: checks, wheel, tests, some with a near cache, demo, Django 6

.PHONY: check
check: env ## Lint, formatting, types, layers, lock files
	$(PYTHON_BIN) -m ruff check .
	$(PYTHON_BIN) -m ruff format --check .
	$(PYTHON_BIN) -m mypy
	.venv/bin/lint-imports
	tools/check-locks
	$(PYTHON_BIN) tools/security-table --check

.PHONY: unit
unit: env ## Run the tests (ARGS goes to pytest)
	tools/debian
	tools/run-tests $(ARGS)

.PHONY: acl
acl: env ## Run every test that uses the store as the bare user of `coatcheck acl`, on Valkey and on Redis 7
	tools/debian
	COATCHECK_TEST_ACL=valkey $(PYTHON_BIN) -m pytest $(ARGS)
	COATCHECK_TEST_ACL=redis7 $(PYTHON_BIN) -m pytest $(ARGS)

.PHONY: matrix
matrix: env ## Run the contract suite on every server release and topology (SERVERS="redis7 cluster" for some)
	tools/debian
	@for server in $(SERVERS); do \
	  echo "== $$server"; \
	  COATCHECK_TEST_SERVER=$$server $(PYTHON_BIN) -m pytest tests/contract tests/attack/test_crash_points.py $(ARGS) || exit 1; \
	done

.PHONY: near
near: env ## Run the contract and the attack suite with every load from a near cache that can be (tests/near_mode.py)
	tools/debian
	$(NEAR) COATCHECK_TEST_EXAMPLES=20 $(PYTHON_BIN) -m pytest -o timeout=600 tests/contract tests/attack $(ARGS)

.PHONY: near-quick
near-quick: env ## The same in short: the state machine, late writes, rollbacks
	$(NEAR) COATCHECK_TEST_EXAMPLES=3 $(PYTHON_BIN) -m pytest tests/contract/test_state_machine.py \
	  tests/attack/test_resurrection.py tests/attack/test_rollback.py $(ARGS)

.PHONY: faults
faults: env ## Kill, freeze and cut off servers under load and check every operation (ARGS="--runs 50 --cell sentinel-kill")
	tools/debian libfaketime iproute2 || echo "Cells that need them are left out."
	$(PYTHON_BIN) -m faults $(ARGS)

.PHONY: django6
django6: ## Run the Django tests under Django 6, where a Python 3.12 or newer is found
	@if python=$$(tools/find-python 3.12); then \
	  PYTHON="$$python" tools/setup .venv-django6 requirements/django6.txt \
	  && .venv-django6/bin/python -m pytest -m django $(ARGS); \
	else \
	  echo "Django 6 was NOT tested: it needs Python 3.12 or newer, and none was found here."; \
	fi

.PHONY: demo-check
demo-check:
	@$(MAKE) --no-print-directory demo ARGS=--check

.PHONY: wheel
wheel: env ## Build the wheel and try it without any extra
	tools/check-wheel

.PHONY: build
build: env ## Build the wheel and the source distribution into dist/
	rm -rf dist
	$(PYTHON_BIN) -m hatchling build

.PHONY: fuzz
fuzz: ## Fuzz what reads hostile bytes (ARGS="--runs 100000 ticket": executions of each target, targets)
	@if python=$$(tools/find-python 3.12); then \
	  PYTHON="$$python" tools/setup .venv-fuzz requirements/fuzz.txt \
	  && .venv-fuzz/bin/python -m fuzz $(ARGS); \
	else \
	  echo "Nothing was fuzzed: atheris needs Python 3.12 or newer, and none was found here." >&2; exit 1; \
	fi

.PHONY: field
field: env ## Measure other session libraries in the same trials (ARGS="Flask" for some of them)
	@for lock in bench/field/locks/*.txt; do \
	  tools/setup .venv-field-$$(basename $$lock .txt) $$lock --no-project || exit 1; \
	done
	$(PYTHON_BIN) -m bench.field.trials $(ARGS)

.PHONY: bench
bench: bench-env ## Measure frameworks with coatcheck and with its peers under load (ARGS="Flask --rounds 3", ARGS=--record)
	.venv-bench/bin/python -m bench.load $(ARGS)

.PHONY: bench-quick
bench-quick: bench-env ## The same in short, on three frameworks; fails where coatcheck has become much slower than recorded
	.venv-bench/bin/python -m bench.load Starlette FastAPI Flask --trial read --trial write --rounds 3 --guard $(ARGS)

.PHONY: bench-inside
bench-inside: bench-env ## Say where the CPU of a request goes inside an asyncio application
	.venv-bench/bin/python -m bench.inside $(ARGS)

.PHONY: bench-env
bench-env:
	tools/debian wrk postgresql
	@command -v node npm >/dev/null || tools/debian nodejs npm
	@tools/setup .venv-bench bench/load/locks/bench.txt
	@tools/setup .venv-bench-litestar bench/load/locks/litestar.txt --no-project
	cd bench/load/express && npm ci --silent --no-audit --no-fund

.PHONY: format
format: env ## Format the code and mend what ruff can mend
	$(PYTHON_BIN) -m ruff format .
	$(PYTHON_BIN) -m ruff check --fix .

.PHONY: lock
lock: ## Rebuild the lock files (ARGS=--upgrade moves to the newest versions)
	@tools/setup .venv-lock requirements/lock.txt --no-project
	tools/lock $(ARGS)

.PHONY: env
env: ## Set up .venv, where anything changed
	@tools/setup .venv requirements/test.txt

.PHONY: clean
clean: ## Remove the environments, caches and builds
	rm -rf .venv .venv-* .venv.lock dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .fuzz
	find src tests demo faults fuzz -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
