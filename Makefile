# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Needs Python 3.11 or newer (on PATH, in pyenv's folder or in uv's), and for the sandbox Go (fetched from PyPI where PATH has none that is new enough).

# looked for once, by the first target that needs it
PYTHON ?= $(eval PYTHON := $(or $(shell tools/python 3.13 3.14 3.12 3.11),$(error no Python for the tools)))$(PYTHON)
VENV := .venv
SANDBOX := $(VENV)/bin/python -m sandbox

.DEFAULT_GOAL := help

.PHONY: help
help: ## This list
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 24

.PHONY: environment
environment: ## Make .venv with Ansible, the collections and every tool
	@$(PYTHON) tools/environment.py dev

.PHONY: sandbox
sandbox: preflight environment ## Start a real Istio mesh on loopback, building it the first time
	@$(SANDBOX) up

# before the minutes that environment and build take
.PHONY: preflight
preflight:
	@$(PYTHON) -m sandbox.preflight $(if $(filter demo,$(MAKECMDGOALS)),demo,sandbox)

.PHONY: down
down: ## Stop the mesh
	@if [ -x $(VENV)/bin/python ]; then $(SANDBOX) down; fi

.PHONY: status
status: ## What of the mesh runs, and whether it is healthy
	@if [ -x $(VENV)/bin/python ]; then $(SANDBOX) status; else echo "the sandbox was never started: make sandbox"; exit 3; fi

.PHONY: demo
demo: sandbox ## Carry out both walkthroughs, and tell what was proven
	@. .sandbox/env && python tools/demo.py

CHECK := $(PYTHON) tools/check.py

.PHONY: test
test: ## Every test that needs no Docker, on ansible-core 2.21, 2.19 and 2.16
	@$(CHECK)

.PHONY: lint
lint: ## Formatting, types, layers, ansible-lint, documentation, and what would be shipped
	@$(CHECK) lint

.PHONY: sanity
sanity: ## ansible-test sanity, without exceptions
	@$(CHECK) sanity

.PHONY: test-unit
test-unit: ## The tests that need no mesh
	@$(CHECK) unit

.PHONY: test-integration
test-integration: ## The tests against the mesh
	@$(CHECK) integration

.PHONY: molecule
molecule: environment ## The walkthroughs as molecule scenarios on the mesh
	@$(VENV)/bin/python tools/scenarios.py sandbox

.PHONY: test-kind
test-kind: ## Everything that needs pods, and the same scenarios, on a kind cluster
	@$(CHECK) kind

.PHONY: bench
bench: sandbox ## How long things take, beside what a user would use instead: alone on the machine, a quarter of an hour
	@$(VENV)/bin/python tests/benchmark/bench.py
	@$(VENV)/bin/python tests/benchmark/bench_diagnosis.py
	@$(VENV)/bin/python tests/benchmark/bench_runner.py

.PHONY: faults
faults: sandbox ## The numbers of docs/diagnosis.md: every fault and correct set, beside istioctl analyze, and what `make bench` measured
	@. .sandbox/env && python tools/diagnosis.py faults

.PHONY: docs
docs: environment ## Every module's and role's documentation, in .docs/index.html
	@$(VENV)/bin/python tools/documentation.py

.PHONY: clean
clean: down ## Stop the mesh, and remove everything that was built or cached here
	rm -rf .ansible .bench .cache .docs .sandbox .venv .venv-2.19 .venv-2.16 .venv-events .venv-artefact .venv-ee .mypy_cache .pytest_cache .ruff_cache
