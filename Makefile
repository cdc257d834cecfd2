# What there is to run. Each target makes the environment first, if it is missing or older than constraints.txt.
# Paths are relative to this file's folder, which may have spaces in its name.

PYTHON = .venv/bin/python
TYPED = models worker tasks docs celeryconfig.py
.DEFAULT_GOAL = help
.DELETE_ON_ERROR:

.PHONY: help install demo up test chaos lint format docs bench bench-proof constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

install: .venv/.installed ## make the environment in .venv, from constraints.txt

# The stamp is written last: an installation that was interrupted begins again.
.venv/.installed: constraints.txt bin/make-environment
	@bin/make-environment
	@touch $@

demo: .venv/.installed ## move money through a real queue, and show what happened
	@bin/equipoise demo

up: .venv/.installed ## the embedded stack in the foreground, ready for a producer
	@bin/equipoise up

test: .venv/.installed ## all tests but the long ones
	$(PYTHON) -m pytest -n 3 --dist loadfile

chaos: .venv/.installed ## the long tests: kills, floods, thousands of examples
	$(PYTHON) -m pytest -m long

lint: .venv/.installed ## style, format and types
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy $(TYPED)

format: .venv/.installed ## put the code into its format
	$(PYTHON) -m ruff check --fix-only --quiet .
	$(PYTHON) -m ruff format .

docs: .venv/.installed ## write the pages that come from the code
	$(PYTHON) -m docs.generate

bench: .venv/.installed ## the claims, measured on this machine, into bench.json
	@bin/equipoise bench

bench-proof: .venv/.installed ## how fast the books are proved, and in how much memory (TRANSFERS=10000000)
	$(PYTHON) -m bench.proof --transfers $(or $(TRANSFERS),1000000)

# Universal: markers in place of one platform's choice, and the hashes of every file of a release. Written to another name
# first, since a failed compilation must not leave half a file. The address of a registry never gets in.
constraints: ## compile constraints.txt anew from pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo 'make constraints: needs uv on PATH (pip install uv)' >&2; exit 69; }
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --upgrade --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --no-header --quiet --output-file constraints.new
	! grep -n '://' constraints.new
	{ printf '# Every package, pinned and hashed, for CPython 3.11 and newer. Made by `make constraints`: do not edit.\n'; \
	    cat constraints.new; } > constraints.txt
	rm constraints.new

clean: ## remove the environment and all that was made, data of the embedded stack included
	rm -rf .venv .equipoise .hypothesis .mypy_cache .pytest_cache .ruff_cache constraints.new bench.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
