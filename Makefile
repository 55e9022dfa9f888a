# Each target does all the set-up it needs; a second run starts at once.
# Needs Python 3.11 or newer, make and a package index; nothing else.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
PROTOS := $(wildcard protos/dbp/*/*.proto)
# The protos that clients have, without comments. Additions enter it by make protos, breaking
# changes by make protos-image alone.
PROTOS_IMAGE := tests/protos.binpb
IMAGE        := ../$(BIN)/buf build --exclude-source-info --output ../$(PROTOS_IMAGE)
BREAKING     := ../$(BIN)/buf breaking --against ../$(PROTOS_IMAGE) || \
  { echo "this breaks clients; if it is meant: make protos-image"; exit 1; }

# Generated code runs on its own protobuf version and every later one up to the next major
# but one; this is the oldest that protobuf 6.30 and a current grpcio both accept.
PROTOC_TOOLS := grpcio-tools==1.72.2
PROTOC       := .venv-protoc/bin/python -m grpc_tools.protoc

# The inference protocol's names belong to no one: other clients of it register them too, and
# one pool takes them once. So ours have a pool of their own.
OWN_POOL := sed -i.orig 's/_descriptor_pool\.Default()/_descriptor_pool.DescriptorPool()/'

PROCESS_TESTS := -m 'processes and not full'

.PHONY: help demo install test test-full test-busy chaos fuzz bench bench-check check format protos protos-image \
        reference clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: $(VENV)/.run  ## the main job, end to end, on real data (under a minute)
	@$(BIN)/dbp demo

install: $(VENV)/.run  ## make .venv with dbp and an MPI library
	@echo "installed: $(BIN)/dbp (try: $(BIN)/dbp --help)"

test: $(VENV)/.dev .mpich/.done  ## run the tests
	$(BIN)/python -m tests.halves $(PYTEST_ARGS)

test-full: $(VENV)/.dev .mpich/.done  ## run the tests, the slow ones too
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-busy: $(VENV)/.dev .mpich/.done  ## run the tests that start processes, on a busy machine
	$(BIN)/python -m tests.busy $(BIN)/python -m pytest $(PROCESS_TESTS) $(PYTEST_ARGS)

chaos: $(VENV)/.dev  ## kill and stop every process at random (SEED=1 CYCLES=200)
	$(BIN)/python -m tests.chaos --seed $(or $(SEED),1) --cycles $(or $(CYCLES),200)

fuzz: $(VENV)/.dev  ## fuzz the parsers of foreign input (MINUTES=5 SEED=1)
	$(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),5) --seed $(or $(SEED),1)

bench: $(VENV)/.bench  ## measure a training step beside other frameworks, write RESULTS.md
	@$(BIN)/python -m tests.benchmarks.training --write $(BENCH_ARGS)

bench-check: $(VENV)/.bench  ## measure again; fail where dbp became slower than others
	@$(BIN)/python -m tests.benchmarks.training --check $(BENCH_ARGS)

check: $(VENV)/.dev .venv-protoc/.done  ## lint, types, import contracts, generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_docstrings.py
	@$(BIN)/dbp components --output markdown | diff - dbp/reference.md || \
	  { echo "dbp/reference.md is out of date: make reference"; exit 1; }
	cd protos && ../$(BIN)/buf lint
	@cd protos && $(BREAKING)
	@cd protos && ../$(BIN)/buf breaking ../$(PROTOS_IMAGE) --against . > /dev/null || \
	  { echo "$(PROTOS_IMAGE) lacks additions: make protos"; exit 1; }
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	  $(PROTOC) -Iprotos --python_out=$$tmp --pyi_out=$$tmp --grpc_python_out=$$tmp $(PROTOS) && \
	  $(OWN_POOL) $$tmp/dbp/inference/*_pb2.py && rm $$tmp/dbp/inference/*.orig && \
	  diff -r -x __init__.py -x __pycache__ $$tmp/dbp/v1 dbp/v1 && \
	  diff -r -x __init__.py -x __pycache__ $$tmp/dbp/inference dbp/inference && \
	  echo "generated code is up to date"

format: $(VENV)/.dev  ## put the code into the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

reference: $(VENV)/.dev  ## write dbp/reference.md from the components
	$(BIN)/dbp components --output markdown > dbp/reference.md.new
	mv dbp/reference.md.new dbp/reference.md

protos: $(VENV)/.dev .venv-protoc/.done  ## generate dbp/v1 and dbp/inference from protos/
	@cd protos && $(BREAKING)
	$(PROTOC) -Iprotos --python_out=. --pyi_out=. --grpc_python_out=. $(PROTOS)
	$(OWN_POOL) dbp/inference/*_pb2.py && rm dbp/inference/*.orig
	@cd protos && $(IMAGE)

protos-image: $(VENV)/.dev  ## accept a change of protos/ that breaks clients
	cd protos && $(IMAGE)

clean:  ## remove what the targets made
	rm -rf .venv .venv-protoc .mpich .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else \
	  "dbp needs Python 3.11 or newer, this is %d.%d; say which: make PYTHON=python3.11 ..." % v[:2])'
	@echo "making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(VENV)/bin/python
	@echo "installing dbp and an MPI library into $(VENV) (once) ..."
	@$(PIP) install --editable '.[mpi]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	@echo "installing dbp and its development tools into $(VENV) (once) ..."
	@$(PIP) install 'pip>=25.1'  # the first that knows --group
	@$(PIP) install --editable '.[hdf5,mpi,onnx,parquet,plot,sklearn]' --group dev
	@touch $@ $(VENV)/.run

$(VENV)/.bench: pyproject.toml | $(VENV)/.dev
	@echo "installing the frameworks to compare with into $(VENV) (once) ..."
	@$(PIP) install --editable '.[bench]'
	@touch $@

# A second MPI library, for the tests that compare the two: beside the environment, for both
# libraries have an mpirun and a libmpi.
.mpich/.done: Makefile | $(VENV)/.dev
	@$(PIP) install --no-deps --prefix .mpich mpich==5.0.2
	@touch $@

.venv-protoc/.done: Makefile
	@$(PYTHON) -m venv .venv-protoc
	@.venv-protoc/bin/python -m pip --disable-pip-version-check --quiet install '$(PROTOC_TOOLS)'
	@touch $@
