# make demo: the whole pipeline on the built-in dataset.   make test: the test suite.   make quick: a minute of it.
.PHONY: demo compare test quick lint setup clean bench bench-gpu

PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
READY := .venv/.ready

setup: $(READY)

# uv picks torch and torchvision as a matching pair; constraints.txt pins every version. Compiled here, once: where
# PYTHONDONTWRITEBYTECODE is set, as in many containers, each command would compile torch again (3 s).
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt \
		--editable '.[dev]'
	touch $(READY)

demo: $(READY)
	PATH="$(BIN):$$PATH" dvc repro
	@echo
	@$(BIN)/rcnn metrics

# All detectors of the project, whatever of them is missing, on one page: reports/comparison/index.html.
compare: $(READY)
	PATH="$(BIN):$$PATH" dvc repro comparison/dvc.yaml

# Compiled files are kept, whatever PYTHONDONTWRITEBYTECODE says: the tests start some hundred processes.
test: $(READY)
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# One room by its name (make quick ROOM=svm: tests/stages/svm), or the rooms whose tests take seconds each.
QUICK := boxes kernels scoring page detections evaluate
quick: $(READY)
	@folders=$$(for room in $(or $(ROOM),$(QUICK)); do find tests -type d -name "$$room" -not -path '*/__pycache__*'; done); \
	test -n "$$folders" || { echo "there is no room $(ROOM) in tests/" >&2; exit 2; }; \
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist loadfile $(if $(ROOM),,-m "not slow") $$folders

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2

# The figures of benchmarks/RESULTS.md, each beside a peer or limit measured in the same run; about 10 minutes.
bench: $(READY)
	$(BIN)/python -m benchmarks

bench-gpu: $(READY)
	$(BIN)/python -m benchmarks --device cuda

clean:
	rm -rf artifacts reports
