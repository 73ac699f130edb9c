# Needs Python 3.11 and nothing else: everything is installed into this folder. PYTHON=... names another interpreter.
PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
BOOTSTRAP = $(PYTHON) mage_platform/local/bootstrap.py
VENV = .venv/bin
BENCH_MODEL = .platform/bench
WORKERS = 2
MAKEFLAGS += --no-print-directory

# One line a command and no shell in between: Ctrl-C and kill reach the program, which then stops everything in order.
.PHONY: help run test check lock clean reset
.PHONY: bench bench-embeddings bench-feast bench-features bench-peers bench-serving bench-training

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; do \
		printf '  make %-17s %s\n' "$$name" "$$what"; done

run: ## install what is needed, start the whole platform, stay until Ctrl-C
	@$(BOOTSTRAP) run
	@$(VENV)/python -m mage_platform up

test: ## install what is needed and run every test, two at a time (WORKERS=0: one after the other)
	@$(BOOTSTRAP) test
	@$(VENV)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: ## style, types, architecture, decisions and unit tests, side by side, in under 30 seconds on two cores
	@$(BOOTSTRAP) test
	@$(MAKE) -j -O .check-style .check-types .check-layers .check-decisions .check-tests

.check-style:
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .

.check-types:
	@$(VENV)/mypy

.check-layers:
	@$(VENV)/lint-imports

.check-decisions:
	@$(VENV)/python -m mage_platform decisions check

.check-tests:
	@$(VENV)/python -m pytest -q -m "not integration" tests/unit tests/architecture

bench: bench-features ## measure speed against floors of the same run

bench-features: ## the feature store: ingest, joins, look-ups, training read (ARGUMENTS=--quick: a tenth)
	@$(BOOTSTRAP) test
	@$(VENV)/python -m benchmarks.feature_store $(ARGUMENTS)

bench-embeddings: ## storing embeddings, beside a bare COPY of them
	@$(BOOTSTRAP) test
	@$(VENV)/python -m benchmarks.embeddings $(ARGUMENTS)

bench-feast: ## the point-in-time join beside Feast's, on the same data (ARGUMENTS=--quick: a tenth)
	@$(BOOTSTRAP) bench-feast
	@$(VENV)/python -m benchmarks.feast_join $(ARGUMENTS)

bench-peers: ## MLServer and MLflow's server beside the sidecar, with the same model (ARGUMENTS=--quick: a fifth)
	@$(BOOTSTRAP) bench-peers
	@$(VENV)/python -m benchmarks.champion $(BENCH_MODEL) $(CHAMPION)
	@$(VENV)/python -m benchmarks.serving_peers $(BENCH_MODEL) $(ARGUMENTS)

bench-serving: ## predictions beside a constant answer, open and closed loop, batches (ARGUMENTS=--quick: a fifth)
	@$(BOOTSTRAP) run
	@$(VENV)/python -m benchmarks.champion $(BENCH_MODEL) $(CHAMPION)
	@$(VENV)/python -m benchmarks.serving $(BENCH_MODEL) $(ARGUMENTS)

bench-training: ## training through Mage beside the same H2O calls in a plain script; 3, 30, 300 regions
	@$(BOOTSTRAP) test
	@$(VENV)/python -m benchmarks.training $(ARGUMENTS)

lock: ## resolve requirements*.in into the locked, hashed requirements (UPGRADE=1: newest versions)
	@$(BOOTSTRAP) lock $(if $(UPGRADE),--upgrade)

clean: ## remove the Python environments and caches; data stays
	rm -rf .venv .venv-serving .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -path ./.platform -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

reset: ## drop all local data under .platform, after asking
	@$(BOOTSTRAP) reset
