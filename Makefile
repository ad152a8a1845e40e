# Everything a newcomer needs: each target makes .venv and installs what it needs by itself.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed-

.PHONY: help demo up test check protos bench bench-quality clean
help:                 ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(STAMP)local: pyproject.toml constraints.txt
	test -x $(BIN)/python || $$(command -v $(PYTHON) || command -v python3) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local]'
	touch $@

$(STAMP)dev: $(STAMP)local
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP)local   ## close the loop on a simulated market; DATA=folder for an imported one, OUT=folder for the report
	$(BIN)/python -m playground demo $(if $(DATA),--data '$(DATA)') $(if $(OUT),--out '$(OUT)')

up: $(STAMP)local     ## PostgreSQL and the three services on this machine, until Ctrl-C
	@$(BIN)/python -m playground up

# Prometheus and the like, for the tests that need them; without, those are skipped and say so.
$(STAMP)tools: $(STAMP)dev tests/tools.py
	$(BIN)/python -m tests.tools
	touch $@

test: $(STAMP)dev $(STAMP)tools   ## all tests: real PostgreSQL, real gRPC processes
	$(BIN)/python -m pytest

check: $(STAMP)dev    ## format, lint, types, import rules, protos, stub freshness
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/python protos/generate.py --check

protos: $(STAMP)dev   ## regenerate the committed stubs from protos/
	$(BIN)/buf lint
	$(BIN)/buf format --write
	$(BIN)/python protos/generate.py

bench-quality: $(STAMP)local   ## retrieval quality on a data set: DATA=folder
	@test -n '$(DATA)' || { echo 'make bench-quality DATA=folder: name a data set (docs/data-sets.md)'; exit 2; }
	$(BIN)/python -m benchmarks.quality '$(DATA)' --out quality.json

bench: $(STAMP)dev    ## every benchmark, small, in under 10 minutes; FULL=1, ONLY='NAME...', DATASETS=folder, KEEP=folder
	$(BIN)/python -m benchmarks $(ONLY) $(if $(FULL),--full) $(if $(DATASETS),--datasets '$(DATASETS)') $(if $(KEEP),--keep '$(KEEP)')

clean:                ## remove what the targets made
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
