# The one door for people who work on Bascule. `make help` prints every target.

SHELL      := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS  += --no-print-directory

PYTHON     ?= python3
# What `make run` serves instead of an office; any stdio command, such as SERVER='uvx mcp-server-time'.
SERVER     ?=
# How often `make kill` kills.
KILLS      ?= 2000
# More words for `bascule up` or `bascule run`, for example ARGS='--port 9000'.
ARGS       ?=

VENV       := .venv
BIN        := $(VENV)/bin
READY      := $(VENV)/.ready
CLIENTS    := .venv-clients
SUITE      := $(CLIENTS)/conformance
AXE        := $(CLIENTS)/axe/node_modules/axe-core/axe.min.js
SUITE_JS   := $(SUITE)/node_modules/@modelcontextprotocol/conformance/dist/index.js
export PATH := $(CURDIR)/$(BIN):$(PATH)

# A Debian package, where that can be done without asking.
apt         = [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
              && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(1)
COMPILE    := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
              --custom-compile-command 'make lock'

# Tests that failed beside others, on a machine that may be busy with more than this, get one more try by themselves.
# What failed is told in both cases; anything but failed tests (1), such as a run that broke off, is a failure at once.
once_more   = [ $$code = 1 ] || exit $$code; echo 'make: once more, one after another, what has failed'; \
              python -m pytest --last-failed --last-failed-no-failures=none --maxfail=10 -v

.PHONY: help setup run scenario test check conformance fuzz kill bench screenshots docs docs-check lock clean lint types npm debian

help: ## Print this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 14

run: $(READY) ## Set up and begin: keys, an office, a console; or serve one server: SERVER='uvx mcp-server-time'
	@exec bascule $(if $(SERVER),run $(ARGS) -- $(SERVER),up $(ARGS))

scenario: $(READY) ## Play one of examples/scenarios: make scenario NAME=travel; without a name: list them
	@exec python examples/scenarios/play.py $(if $(NAME),$(NAME) $(ARGS),--list)

test: $(READY) npm debian $(AXE) ## Set up and pass everything: lint, types, conformance, all tests, real clients and browser included
	$(MAKE) lint types docs-check conformance
	python tests/clients/environments.py
	@export BASCULE_AXE=$(CURDIR)/$(AXE); python -m pytest -n 2 --cache-clear || { code=$$?; $(once_more); }

check: $(READY) ## The quick subset before a commit: lint, format, types, generated docs, tests without clients and browser
	$(MAKE) lint types docs-check
	python -m pytest -n 2 -m 'not clients and not browser'

conformance: $(READY) $(SUITE)/.made ## Judge with the official suite, also across eras and logging in: `LOST n/m`, `CROSS a/b`, `AUTH n/m`; fails when something is lost
	python tests/conformance/run.py --suite $(SUITE_JS) --node $(SUITE)/node_modules/node/bin/node \
	    --python "$$(cd tests/clients && python -c 'import environments; print(environments.python("sdk2"))')"
	python tests/conformance/auth.py --suite $(SUITE_JS) --node $(SUITE)/node_modules/node/bin/node \
	    --python "$$(cd tests/clients && python -c 'import environments; print(environments.python("sdk2"))')"

fuzz: $(READY) ## Try the parsers with far more input than each run does; about 20 minutes
	python -m pytest tests/fuzz -n 2 --hypothesis-profile=fuzz $(ARGS)

kill: $(READY) ## Kill Bascule KILLS times (2000: about 15 minutes) while it pays; ends with `kills N double 0 lost 0 chain ok`
	python tests/soak/kill.py --kills $(KILLS) $(ARGS)

bench: $(READY) ## Measure against other gateways and write docs/benchmarks.md; about 25 minutes (ARGS=--quick: one)
	python bench/run.py $(ARGS)

screenshots: $(READY) debian ## Take a picture of every page of the console, light and dark, into docs/screenshots
	python tests/console/screenshots.py $(ARGS)

docs: $(READY) ## Write the generated tables of docs/ again
	python docs/generate.py

lock: $(READY) ## Resolve the dependencies again: requirements.lock and requirements-dev.lock
	$(COMPILE) --upgrade -o requirements.lock pyproject.toml
	# What builds the package is locked too, so that installing it downloads nothing unlocked.
	printf '%s\n' 'hatchling>=1.27,<2' 'editables>=0.5,<1' \
	    | $(COMPILE) --upgrade --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml -

clean: ## Remove environments, caches and results; sources stay
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis dist bench/results.json bench/governance.json
	find src tests bench docs -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- parts of the above

setup: $(READY)

lint: $(READY)
	ruff check
	ruff format --check

types: $(READY)
	mypy

docs-check: $(READY)
	python docs/generate.py --check

$(READY): $(VENV)/.locked pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.locked: requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo 'make: Python 3.11 or newer is needed; say which with PYTHON=' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(call apt,python3-venv); } \
	    || { echo 'make: python3-venv is missing; install it' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

npm:
	@command -v npm >/dev/null || { $(call apt,npm); } \
	    || { echo 'make: npm is missing; install Node.js with npm' >&2; exit 1; }

# A browser, what checks rules for Prometheus, walls, a database: tests that need one of them are skipped, with the
# reason, without it.
debian:
	@command -v chromium >/dev/null || { $(call apt,chromium); } || echo 'make: chromium is missing; install it' >&2
	@command -v bwrap >/dev/null || { $(call apt,bubblewrap); } || echo 'make: bubblewrap is missing; install it' >&2
	@command -v postgres >/dev/null || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || { $(call apt,postgresql); } \
	    || echo 'make: postgresql is missing; install it' >&2
	@command -v promtool >/dev/null || { $(call apt,prometheus); } || echo 'make: promtool is missing; install prometheus' >&2

# What looks for barriers in pages. Only tests load it.
$(AXE): Makefile | npm
	@mkdir -p $(CLIENTS)/axe && echo '{"private": true}' > $(CLIENTS)/axe/package.json
	npm install --loglevel=error --no-audit --no-fund --no-save --prefix $(CLIENTS)/axe axe-core@4.14.1
	@touch $@

# The suite needs Node 22; the npm package `node` brings it, whatever the system has.
$(SUITE)/.made: Makefile | npm
	@rm -rf $(SUITE) && mkdir -p $(SUITE) && echo '{"private": true}' > $(SUITE)/package.json
	npm install --loglevel=error --no-audit --no-fund --no-save --prefix $(SUITE) node@22.23.3 @modelcontextprotocol/conformance@0.2.0-alpha.12
	@touch $@
