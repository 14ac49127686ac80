# Two commands do all the set-up on a machine that has Python 3.11 or newer, make, git and a network:
#   make run    the main job on embedded defaults: no keys, no homeserver, no agent installed
#   make test   the test suite
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# uv downloads and compiles in parallel, in half of the time that pip takes. It is removed after use. It does not read pip's configuration, so it gets
# the index from there; where it cannot install, pip does.
UV := .cache/uv
define install
	$(PIP) --quiet install --target $(UV) --upgrade --require-hashes -r requirements-uv.lock && \
		{ index=$$($(PIP) config get global.index-url 2>/dev/null); index=$${PIP_INDEX_URL:-$$index}; \
		[ -z "$$index" ] || export UV_DEFAULT_INDEX="$$index"; \
		$(UV)/bin/uv pip install --no-config --no-cache --compile-bytecode --python $(BIN)/python --require-hashes -r $(1); } || \
		{ echo "uv cannot install here; pip does it now." >&2; $(PIP) install --no-deps --require-hashes -r $(1); }; \
		status=$$?; rm -rf $(UV); exit $$status
endef
#: Test processes at one time; each starts a Synapse of its own. Three leave two cores idle for a quarter of the time.
TEST_PROCESSES ?= 4
#: Which tests with the real agents `make test-ci` runs: `agents` is all of them, `smoke` a few.
AGENTS ?= agents
#: What goes before the tests; nothing (`LINT=`) where another run has looked at the same sources.
LINT ?= lint
SOURCES := bot budget conduit connectors core database egress fleet forge scheduler tests benchmarks docs

# Each test process would compile all modules anew, and pytest rewrite all tests, which takes it a quarter of a minute.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-slow test-agents test-ci test-root soak explore bench docs release lint format lock clean help

help: ## Say what each target does.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

run: $(VENV)/.installed ## Install, then run a fleet of two built-in agents in a terminal chat.
	@$(BIN)/muster up --demo

test: $(VENV)/.installed-dev $(LINT) ## Install, check style, types and layers, then run the tests.
	@$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist worksteal $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-dev ## The tests that `make test` leaves out since they take long.
	@$(BIN)/python -m pytest -m "slow and not soak" --numprocesses $(TEST_PROCESSES) --dist worksteal $(PYTEST_ARGS)

test-agents: $(VENV)/.installed-dev tests/agents/node_modules/.installed ## Test with the real Claude Code, Codex, opencode and pi.
	@$(BIN)/python -m pytest -m agents --numprocesses $(TEST_PROCESSES) --dist worksteal $(PYTEST_ARGS)

test-ci: $(VENV)/.installed-dev $(LINT) tests/agents/node_modules/.installed tests/browser/node_modules/.installed ## test, test-slow and test-agents in one session.
	@$(BIN)/python -m pytest -m "not soak and (not agents or $(AGENTS))" --numprocesses $(TEST_PROCESSES) \
		--dist worksteal $(PYTEST_ARGS)

test-root: $(VENV)/.installed-dev tests/agents/node_modules/.installed ## As root: what needs root, or shows something else as root.
	@[ "$$(id -u)" = 0 ] || { echo "make test-root is for root." >&2; exit 1; }
	@$(BIN)/python -m pytest -m "root and not soak" --numprocesses $(TEST_PROCESSES) --dist worksteal $(PYTEST_ARGS)

soak: $(VENV)/.installed-dev ## The long forms of the tests; SOAK_SECONDS bounds the time.
	@$(BIN)/python -m pytest -m soak --timeout=3600 $(PYTEST_ARGS)

explore: $(VENV)/.installed-dev ## The property tests with new examples, drawn at random.
	@MUSTER_PROPERTIES=explore $(BIN)/python -m pytest -m "hypothesis and not agents" --numprocesses $(TEST_PROCESSES) \
		--dist worksteal $(PYTEST_ARGS)

bench: $(VENV)/.installed-dev ## Measure, as ratios in one run.
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

lint: $(VENV)/.installed-dev ## Style, types and layers.
	@$(BIN)/ruff check --quiet $(SOURCES)
	@$(BIN)/ruff format --check --quiet $(SOURCES)
	@$(BIN)/mypy --no-error-summary
	@mkdir -p .cache
	@$(BIN)/lint-imports --no-cache >.cache/imports.log 2>&1 || { cat .cache/imports.log; exit 1; }

docs: $(VENV)/.installed-docs ## Write the reference pages and build the site into .cache/docs; a broken link fails.
	@$(BIN)/python -m docs.reference_pages
	@$(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going docs .cache/docs
	@echo "Built .cache/docs/index.html."

format: $(VENV)/.installed-dev ## Rewrite the sources in the house style.
	@$(BIN)/ruff check --quiet --fix $(SOURCES); $(BIN)/ruff format --quiet $(SOURCES)

release: $(VENV)/.installed-dev ## Build dist/, and try it in empty environments (docs/CONTRIBUTING.md).
	@.ci/release

lock: $(VENV)/.installed-dev ## Resolve the dependencies anew into the lock files.
	@$(PIP) --quiet install uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		pyproject.toml --group build -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		pyproject.toml --extra forge --extra opentelemetry --extra webpush --group dev -c requirements.lock -o requirements-dev.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--no-annotate --group docs -c requirements-dev.lock -o requirements-docs.lock
	@echo uv | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--no-annotate - -o requirements-uv.lock

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Muster needs Python 3.11 or newer; say which with PYTHON=python3.12 make run." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p .cache

$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV) ..." >&2
	@$(call install,requirements.lock)
	@$(PIP) --quiet install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@$(call install,requirements-dev.lock)
	@touch $@

$(VENV)/.installed-docs: requirements-docs.lock $(VENV)/.installed
	@$(call install,requirements-docs.lock)
	@touch $@

tests/agents/node_modules/.installed: tests/agents/package-lock.json
	@cd tests/agents && npm ci --silent --no-audit --no-fund
	@touch $@

tests/browser/node_modules/.installed: tests/browser/package-lock.json
	@cd tests/browser && npm ci --silent --no-audit --no-fund
	@touch $@

clean: ## Remove what the targets made here.
	@rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache tests/agents/node_modules tests/browser/node_modules
