# Everything a developer runs. Each target sets up what it needs on a machine that has only Python 3.11, gcc and make.
#
#   make demo      the main job on real input: bateau crawls Python's own web server and proves the result
#   make test      the suite on the default Python, over both kernels
#   make test-pure the suite over pure Python alone
#   make test-all  the suite on 3.11, 3.12 and 3.13
#   make check     ruff, bateau lint, pyright, mypy, import direction, documentation snippets
#   make bench     measurements beside asyncio, uvloop, trio, anyio and others: 40 minutes (ARGS=--targets: 10; ARGS=--help)
#   make docs      the documentation as HTML in site/
#   make native    build the native twin in place, where its sources exist
#   make test-asan the whole suite under the address sanitizer: well over an hour (T='tests/native': what is named)
#   make test-debug the tests nearest to C (ALL=1: all) on a debug build of Python (DEBUG_PYTHON=python3.11-dbg), which checks what C does at each call
#   make soak      half an hour of random work and cancellation; memory and descriptors must stay flat (ARGS='--seconds 60')
#   make clean     remove what was built, environments included

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

# `make test T='tests/kernel -k shield'` passes arguments to pytest; `make demo ARGS='--all'` to the demo.
T ?=
ARGS ?=

VERSIONS := 3.11 3.12 3.13
DEFAULT  := 3.11
VENV     := .venv
BIN      := $(VENV)/bin

# The C twin of the kernel. While this list is empty bateau is pure Python only.
NATIVE_SOURCES := $(wildcard src/bateau/_native/*.c)

# The kernel is chosen once per process (tests/support/entries.py), so each kernel is a run of its own: the whole suite over the twin,
# which is what users have, then over pure Python, which defines the behaviour, the folders that are about the kernel. `make test-pure`
# runs all of it over pure Python.
KERNEL_TESTS := $(addprefix tests/,kernel laws sync channel combine time iter thread)
# How many processes share the tests: more than two cores have, because tests wait as well; 0 runs them in one, for a debugger.
JOBS ?= 3
pytest = $(1)/bin/python -m pytest -n $(JOBS)
pytest-over-kernels = $(call pytest,$(1)) $(T) && BATEAU_PURE=1 $(call pytest,$(1)) $(or $(T),$(KERNEL_TESTS))

# The environment of a version: the default's is .venv, the others' are .venv-3.12, ...
venv-of = $(if $(filter $(DEFAULT),$(1)),$(VENV),$(VENV)-$(1))

.PHONY: help env native demo test test-pure test-all $(VERSIONS:%=test-%) check lint types project bench docs test-asan test-debug soak format clean

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

# ---------------------------------------------------------------- environments
# One stamp per environment, younger than pyproject.toml: repeated calls cost nothing, a changed dependency is installed.
env: $(VENV)/.stamp

$(VENV)/.stamp: pyproject.toml scripts/make-env
	@scripts/make-env $(DEFAULT) $(VENV) dev,bench

$(VENV)-%/.stamp: pyproject.toml scripts/make-env
	@scripts/make-env $* $(VENV)-$* test,bench

# ---------------------------------------------------------------- native
# One build per Python, younger than every C file: repeated calls cost nothing. Where it fails (no compiler) bateau is pure Python,
# and the next call tries again.
NATIVE_PARTS := $(NATIVE_SOURCES) $(wildcard src/bateau/_native/*.h) setup.py

native: build/native/$(DEFAULT).stamp

build/native/$(DEFAULT).stamp: $(VENV)/.stamp $(NATIVE_PARTS)
	$(call build-native,$(VENV),$(DEFAULT))

build/native/%.stamp: $(VENV)-%/.stamp $(NATIVE_PARTS)
	$(call build-native,$(VENV)-$*,$*)

define build-native
	@rm -f src/bateau/_native.cpython-$(subst .,,$(2))*.so  # a failed build must not leave the last one to the new sources
	@$(1)/bin/python setup.py --quiet build_ext --inplace
	@mkdir -p build/native
	@if ls src/bateau/_native.cpython-$(subst .,,$(2))*.so >/dev/null 2>&1; then touch build/native/$(2).stamp; \
	else echo "bateau: the C extension was not built for Python $(2): pure Python only" >&2; fi
endef

# ---------------------------------------------------------------- run, test, check
demo: env native
	$(BIN)/bateau demo $(ARGS)

test: env native
	$(call pytest-over-kernels,$(VENV))

test-pure: env
	BATEAU_PURE=1 $(call pytest,$(VENV)) $(T)

test-all: $(VERSIONS:%=test-%)

# Written per version, so that `make test-3.12` is a target of its own and `make -j` may run them side by side.
define test-version
test-$(1): $(call venv-of,$(1))/.stamp build/native/$(1).stamp
	$$(call pytest-over-kernels,$(call venv-of,$(1)))
endef
$(foreach v,$(VERSIONS),$(eval $(call test-version,$(v))))

# Three parts; `make -k check` runs the rest when one of them fails.
check: lint types project

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=src $(BIN)/python -m bateau lint src tests examples benchmarks scripts

types: env
	$(BIN)/pyright
	$(BIN)/mypy

# What is true of the project: import direction, start-up cost, docstrings, documentation snippets, the test fixtures.
project: env
	$(BIN)/python -m pytest -q tests/project

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: env native
	$(BIN)/python -m benchmarks $(ARGS)

docs: env
	$(BIN)/mkdocs build --strict --quiet
	@echo "documentation: site/index.html"

# The C twin, built beside the tree with the address and undefined-behaviour sanitizers, under the whole suite. It takes three to four times
# the suite's time. Leaks are tests/native's subject: what the interpreter itself keeps to its end would drown them here.
ASAN_LIB := build/asan/lib

test-asan: env
	@CFLAGS="-g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined" \
	  $(BIN)/python setup.py --quiet build --build-base build/asan --build-lib $(ASAN_LIB)
	@ls $(ASAN_LIB)/bateau/_native.*.so >/dev/null
	PYTHONPATH=$(CURDIR)/$(ASAN_LIB) PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 \
	  LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	  $(BIN)/python -m pytest -n $(JOBS) -o faulthandler_timeout=600 $(or $(T),tests)

# An interpreter built with Py_DEBUG aborts where C calls it with an exception set, gives it an object that was freed, or counts a reference
# twice. Debian has one (python3.11-dbg, python3.11-venv), which loads what was built for the plain one: no wheel is missing.
NEAR_TO_C := $(addprefix tests/,native faults kernel laws sync channel net io runtimes)
DEBUG_PYTHON ?= python3.11-dbg
DEBUG_LIB := build/debug/lib

test-debug: .venv-debug/.stamp
	@.venv-debug/bin/python -W ignore setup.py --quiet build --build-base build/debug --build-lib $(DEBUG_LIB)
	@ls $(DEBUG_LIB)/bateau/_native.*.so >/dev/null
	PYTHONPATH=$(CURDIR)/$(DEBUG_LIB) .venv-debug/bin/python -X dev -m pytest -o faulthandler_timeout=600 $(or $(T),$(if $(ALL),tests,$(NEAR_TO_C)))

.venv-debug/.stamp:
	@$(DEBUG_PYTHON) -c 'import sys; sys.exit(0 if hasattr(sys, "gettotalrefcount") else "DEBUG_PYTHON is no debug build of Python")'
	@$(DEBUG_PYTHON) -W ignore -m venv .venv-debug
	@.venv-debug/bin/python -W ignore -m pip --quiet install --editable '.[test]'
	@touch $@

soak: env native
	$(BIN)/python scripts/soak.py $(ARGS)

clean:
	rm -rf $(VENV) $(VERSIONS:%=$(VENV)-%) .venv-debug .venv*.lock build dist site src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
	find src -name '*.so' -delete 2>/dev/null || true
