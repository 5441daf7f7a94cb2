# make demo    a primary, two streaming replicas and pgweir in front, until Ctrl-C
# make test    the whole suite          make lint    format, style, types, layers, stubs
# make bench   beside PgBouncer         make fuzz    odd bytes for all that reads a peer's
# make docs    pages that are written by the program
# make suites  what drivers and ORMs test, direct and through pgweir
# make failover-table    kills many primaries, and writes down what clients saw (15 minutes)
# make clean   as if freshly cloned
#
# Everything is installed into .venv, once; again when what it is made from has changed.
#
#   make demo DEMO_ARGS='--port 7000 --replicas 1'
#   make test PYTEST_ARGS='tests/auth -x' TEST_PROCESSES=0
#   make PYTHON=python3.12 …
#   make PGWEIR_DEBUG=1 …       bounds checks in the compiled rooms

PYTHON ?= python3
DEMO_ARGS ?=
PYTEST_ARGS ?=
TEST_PROCESSES ?= 3
RUNS ?= 10
BENCH_ARGS ?=
SUITES_ARGS ?=
FUZZ_ARGS ?= --seconds 300

VENV := .venv
RUN := $(VENV)/bin/python
# What an installation is made from. Python files are used where they lie.
MADE_FROM := Makefile pyproject.toml setup.py machine.py \
	$(shell find proxy -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi')
# A debug build and an ordinary one take each other's place.
BUILD := $(if $(filter 1,$(PGWEIR_DEBUG)),debug,plain)
DEMO := $(VENV)/.demo-$(BUILD)
DEV := $(VENV)/.dev-$(BUILD)
FUZZ := $(VENV)/.fuzz-$(BUILD)

# A proxy is started hundreds of times by the tests: a quarter of its start would be compiling it.
unexport PYTHONDONTWRITEBYTECODE
export PGWEIR_DEBUG
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint bench suites fuzz docs pictures failover-table clean packages
.DEFAULT_GOAL := demo

demo: $(DEMO)
	@$(RUN) -m proxy demo $(DEMO_ARGS)

# What must be there before anything is installed: one line says what is not.
define require_machine
$(if $(shell command -v $(PYTHON) 2>/dev/null),,$(error pgweir: there is no $(PYTHON): install \
Python 3.11 or newer, on Debian with apt-get install python3, or name it: make PYTHON=…))
$(eval missing := $(shell $(PYTHON) machine.py --venv 2>&1))
$(if $(missing),$(error pgweir: $(missing:.=)))
endef

# $(extras): what to install besides.
define install
@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
@echo 'Installing pgweir[$(extras)] into $(VENV); the first time it is compiled, which takes a minute.'
@rm -f $(DEMO:$(BUILD)=*) $(DEV:$(BUILD)=*) $(FUZZ:$(BUILD)=*)
@$(RUN) -m pip install --quiet --editable '.[$(extras)]'
endef

$(DEMO): extras := demo
$(DEMO): $(MADE_FROM)
	$(require_machine)
	$(install)
	@touch $@

# python-ldap has no wheel; where its headers are not, the tests that need it are skipped. Looked for
# when it is installed, because `packages` may have brought them.
$(DEV): extras = demo,dev$(shell test -e /usr/include/ldap.h -a -e /usr/include/sasl/sasl.h && echo ,ldap)
$(DEV): $(MADE_FROM)
	$(require_machine)
	$(install)
	@touch $(DEMO) $@

$(FUZZ): extras := demo,dev,fuzz
$(FUZZ): $(MADE_FROM)
	$(require_machine)
	$(install)
	@touch $(DEMO) $(DEV) $@

# PostgreSQL with TLS, the proxies of the benchmark's tests, node, Java and Go for their drivers, slapd,
# Chromium, Prometheus. Without them the tests that need them are skipped, or fail where CI is set.
packages:
	@.ci/packages test

# Most tests wait for something some of the time: three processes keep two cores busy, and four are no
# faster. The tests of a file share what they start, so they stay together; the order of the files is
# tests/conftest.py's.
test: packages $(DEV)
	@$(RUN) -m pytest --numprocesses=$(TEST_PROCESSES) --dist=loadfile --no-loadscope-reorder \
		$(PYTEST_ARGS)

lint: $(DEV)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports
	$(RUN) -m mypy.stubtest --mypy-config-file pyproject.toml --allowlist .ci/stubtest-allowlist \
		proxy.relay.relay proxy.sql.lexer proxy.wire.messages
	$(VENV)/bin/shellcheck .ci/run .ci/packages deploy/*.sh
	@test ! -x $(VENV)/bin/hadolint || $(VENV)/bin/hadolint Dockerfile

bench: $(DEV)
	@$(RUN) -m benchmarks $(BENCH_ARGS)

suites: packages $(DEV)
	@$(RUN) -m benchmarks.suites $(SUITES_ARGS)

fuzz: $(FUZZ)
	@$(RUN) -m tests.fuzz $(FUZZ_ARGS)

docs: $(DEV)
	@$(RUN) -m proxy.config.reference > docs/configuration.md.new
	@mv docs/configuration.md.new docs/configuration.md
	@PYTHONPATH=. $(RUN) tests/telemetry/test_metrics_page.py

# What docs show of the status page; two minutes, with Chromium.
pictures: packages $(DEV)
	@$(RUN) -m tests.live.pictures

failover-table: $(DEV)
	@$(RUN) -m tests.live.failover_table --runs $(RUNS) $(if $(FAULTS),--only $(FAULTS))

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache tests/node/node_modules tests/java/target
	find proxy tests benchmarks -name '__pycache__' -prune -exec rm -rf {} +
	find proxy \( -name '*.so' -o -name '*.c' \) -delete
