# `make demo` and `make test` set everything up by themselves; each target says what it does.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
HOME_DIR ?= driftward-home
# Two processes on two cores: threads of their own would only wait for each other's.
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
STATEMENTS := .statements
PEERS := $(basename $(notdir $(wildcard tests/benchmarks/drift/peers/*.txt)))

.PHONY: help venv demo test check format bench bench-drift bench-episodes bench-intake bench-strategies bench-gates bench-backtest bench-ledger faults fuzz wheel clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

venv: $(STAMP)  ## create .venv with every version as constraints.txt pins it

$(STAMP): constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "pip==26.2"
	@echo "installing the pinned dependencies (some minutes the first time) …"
	$(BIN)/pip install --quiet --no-deps -r constraints.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/pip check
	@touch $@

demo: $(STAMP)  ## run the whole loop on the sample scans, then serve the dashboard on loopback
	$(BIN)/driftward demo --home $(HOME_DIR)

test: $(STAMP)  ## run every test, and as many of them on PostgreSQL as send it every statement
	rm -rf $(STATEMENTS)
	DRIFTWARD_TEST_STATEMENTS=$(STATEMENTS) $(TESTS)
	DRIFTWARD_TEST_STATEMENTS=$(STATEMENTS) DRIFTWARD_TEST_DATABASE=postgresql $(TESTS) -m "not slow"

check: $(STAMP)  ## format, lint, types, imports and tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

format: $(STAMP)  ## format and mend what can be mended by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: bench-drift bench-episodes bench-intake bench-strategies bench-gates bench-backtest bench-ledger  ## measure what still lacks, and print every benchmark's tables

bench-drift: $(STAMP) $(PEERS:%=.peers/%/.installed)  ## the drift test beside its peers; QUICK=1 for a first look
	$(BIN)/python tests/benchmarks/drift/run.py $(if $(QUICK),--quick)

bench-episodes: $(STAMP) $(PEERS:%=.peers/%/.installed)  ## streams, causes, silence, impact, subgroups
	$(BIN)/python tests/benchmarks/episodes/run.py

bench-intake: $(STAMP)  ## receiving beside storescp, decoding, embedding (needs dcmtk)
	$(BIN)/python tests/benchmarks/intake/run.py

bench-strategies: $(STAMP)  ## what each way of retraining repairs, on real scans
	$(BIN)/python tests/benchmarks/strategies/run.py

bench-gates: $(STAMP)  ## what gates let through and refuse, simulated
	$(BIN)/python tests/benchmarks/gates/run.py

bench-backtest: $(STAMP)  ## a plan replayed on half a year of 50,000 scans
	$(BIN)/python tests/benchmarks/backtest/run.py

bench-ledger: $(STAMP)  ## verify, sign and export a ledger of a million entries (needs postgresql)
	$(BIN)/python tests/benchmarks/ledger/run.py

faults: $(STAMP)  ## kill -9 at named crash points, 20 times each, and 1,000 breaches at once (needs dcmtk, orthanc)
	$(BIN)/python tests/faults/receiving.py
	$(BIN)/python tests/faults/sources.py
	$(BIN)/python tests/faults/assembling.py
	$(BIN)/python tests/faults/keys.py
	$(BIN)/python tests/faults/embedding.py
	$(BIN)/python tests/faults/training.py
	$(BIN)/python tests/faults/promoting.py
	$(BIN)/python tests/faults/scheduling.py

fuzz: $(STAMP)  ## an hour of damaged files and requests, and of files cut short
	FUZZ_EXAMPLES=200000 $(BIN)/python -m pytest -q --timeout 5000 tests/monitor/intake/test_fuzz.py tests/monitor/intake/test_truncation.py

# Each peer in an environment of its own: their dependencies exclude each other's.
.peers/%/.installed: tests/benchmarks/drift/peers/%.txt
	$(PYTHON) -m venv .peers/$*
	.peers/$*/bin/pip install --quiet -r $<
	@touch $@

wheel: $(STAMP)  ## build the wheel into dist/
	$(BIN)/python -m hatchling build -t wheel

clean:  ## remove what was built, but no home
	rm -rf $(VENV) .peers dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache $(STATEMENTS)
