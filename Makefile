# make demo: the whole pipeline on the built-in dataset.   make test: the test suite.
.PHONY: demo test lint setup clean bench bench-gpu

PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
READY := .venv/.ready

setup: $(READY)

# uv picks torch and torchvision as a matching pair; constraints.txt pins every version.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: $(READY)
	PATH="$(BIN):$$PATH" dvc repro
	@echo
	@$(BIN)/rcnn metrics

test: $(READY)
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The figures of benchmarks/RESULTS.md, each beside a peer or limit measured in the same run; about 10 minutes.
bench: $(READY)
	$(BIN)/python -m benchmarks

bench-gpu: $(READY)
	$(BIN)/python -m benchmarks --device cuda

clean:
	rm -rf artifacts reports
