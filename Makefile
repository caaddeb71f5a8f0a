# Set-up is a plain venv with exact pins; every target makes it first when it is missing.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install demo cluster fleet test test-all bench soak check docs diagrams wheel-check stubs lock sbom clean

PYTHON ?= python3
WORKERS ?= 2
ARGS ?=
MINUTES ?= 10
# Of cyclonedx-bom, which is not installed here: `make sbom` fetches it.
CYCLONEDX ?= 7.5.0
# Of mermaidx, for `make diagrams`.
MERMAIDX ?= 0.10.1

VENV := .venv
RUN := $(VENV)/bin/python
# Named after the checkout's path: a venv that was copied or moved points at the old one.
STAMP := $(VENV)/installed-$(shell pwd | cksum | cut -d' ' -f1)

# Tests run WORKERS processes of one thread each.
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 $(RUN) -m pytest -q
PARALLEL := -n $(WORKERS) --dist worksteal --benchmark-disable

help: ## print these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv with the command .venv/bin/vicinal

# The lock is whole: nothing is looked up beside it, and `pip check` sees if something is missing.
# The stamp comes last, so that what was broken off is done again.
$(STAMP): requirements.lock requirements-torch.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "vicinal needs Python 3.11, 3.12 or 3.13: set PYTHON=python3.x")'
	@rm -f $(VENV)/installed-*
	@$(RUN) -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	@echo "installing what requirements.lock pins into $(VENV), about 2 minutes"
	@$(RUN) -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(RUN) -m pip install -q --disable-pip-version-check -r requirements-torch.lock
	@$(RUN) -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(RUN) -m pip check
	@touch $@
	@echo "installed: $(VENV)/bin/vicinal"

demo: install ## the whole path on MovieLens 100K, with real processes (ARGS="…" passes options)
	@$(VENV)/bin/vicinal demo $(ARGS)

cluster: install ## PostgreSQL, three servers, nginx where it is installed; one server is killed
	@$(VENV)/bin/vicinal cluster --servers 3 $(ARGS)

fleet: install ## a SuperLink and three SuperNodes of Flower, with TLS and keys; checks the tally
	@$(VENV)/bin/vicinal fleet --nodes 3 --dataset synthetic:300x200 --list-length 10 $(ARGS)

test: install ## the fast tests
	@$(PYTEST) $(PARALLEL) -m "not realdata and not slow" $(ARGS)

test-all: install ## every test; those on real ratings need VICINAL_DATA
	@$(PYTEST) $(PARALLEL) $(ARGS)

# Ratios only: they hold on a busy machine too.
bench: install ## the short benchmarks; fails when one is below its floor
	@for part in kernel inference scaling; do $(RUN) -m benchmarks.tuning.$$part --short; done

soak: install ## faults under load for MINUTES=10, and all of tests/faults for longer; prints figures
	@OMP_NUM_THREADS=1 $(RUN) -m tests.faults.soak --minutes $(MINUTES) $(ARGS)

check: install ## lint, format, types, generated stubs, import directions, a small audit
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@$(RUN) proto/generate.py --check
	@$(PYTEST) -m "not slow" tests/test_imports.py tests/sims/commands/test_audit.py

# Whole each time: a page that is not read again does not warn again.
docs: install ## the documentation as a site: build/site/index.html; a warning is an error
	@$(RUN) -m sphinx -q -W --keep-going -E -c docs/site -d build/site-trees . build/site
	@echo "build/site/index.html"

diagrams: install ## draw the diagrams of the pages that were changed, for the site
	@$(RUN) -m uv run --quiet --no-project --with mermaidx==$(MERMAIDX) docs/site/diagrams.py

wheel-check: install ## wheel and sdist: contents, same bytes twice, each extra in a fresh environment
	@PYTHON=$(PYTHON) .ci/wheel

stubs: install ## regenerate common/wire/ from proto/
	@$(RUN) proto/generate.py

lock: install ## write requirements.lock again, with the hashes of what it pins
	@.ci/lock

sbom: install ## a list of all that is installed (CycloneDX JSON): build/sbom.json
	@mkdir -p build
	@$(RUN) -m uv tool run --quiet --from cyclonedx-bom==$(CYCLONEDX) cyclonedx-py \
	    environment $(VENV) --output-format JSON --output-file build/sbom.json
	@echo "build/sbom.json"

clean: ## remove .venv and every cache
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
