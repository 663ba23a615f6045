# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

# The work is done by the scripts in tests/bin. Another Python for .venv: make PYTHON=python3.13

export PYTHON ?= python3
CHECK = $(PYTHON) tests/bin/check

.DEFAULT_GOAL := help
.PHONY: help setup test unit units lint sanity docs-lint build integration faults test-vm bench bench-precopy bench-overhead bench-images bench-drain demo clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

setup: ## install the lab's Debian packages (as root) and build .venv
	@tests/bin/setup

test: ## everything below down to integration; the last line counts
	@$(CHECK)

unit: ## unit tests on .venv
	@$(CHECK) unit

units: ## unit tests by ansible-test, newest and oldest core, controller's Python and 3.9
	@$(CHECK) units units-oldest

lint: ## ruff, its formatter, mypy, ansible-lint
	@$(CHECK) ruff format mypy ansible-lint

sanity: ## ansible-test sanity, newest and oldest core
	@$(CHECK) sanity sanity-oldest

docs-lint: ## documentation of plugins and roles, changelog fragments
	@$(CHECK) docs-lint changelog

build: ## build the tarball into .build, install it elsewhere, and look that all is there
	@$(CHECK) build

integration: ## real hosts, real moves
	@$(CHECK) integration

faults: ## the rest of what can break while a container moves, at each phase; an hour or two
	@$(CHECK) faults

test-vm: ## pre-copy, in two virtual machines with a kernel that tracks memory
	@$(CHECK) vm

bench: setup ## how long clients wait while a container moves, beside podman's own commands, into docs/benchmarks.md; OPTIONS=--short
	@.venv/bin/python tests/benchmark/moves.py $(OPTIONS)

bench-precopy: setup ## the same with memory that goes before the freeze, in two virtual machines, into docs/benchmarks.md
	@.venv/bin/python tests/benchmark/precopy.py $(OPTIONS)

bench-overhead: setup ## what a move of an idle container spends besides its downtime, into docs/benchmarks.md
	@.venv/bin/python tests/benchmark/overhead.py $(OPTIONS)

bench-images: setup ## time and memory of checkpoint images beside buildah, into docs/benchmarks.md; OPTIONS=--short
	@.venv/bin/python tests/benchmark/images.py $(OPTIONS)

bench-drain: setup ## a host is emptied, beside a shell loop, into docs/benchmarks.md; OPTIONS=--short
	@.venv/bin/python tests/benchmark/drain.py $(OPTIONS)

demo: setup ## a live move to watch
	@tests/bin/demo

clean: ## remove .venv and .build
	rm -rf .venv .build
