# Two commands for a fresh machine with Python 3.11 to 3.13 and pip: `make run` and `make test`.
# BUILD.md tells of all of them.

PYTHON ?= python3
BIN := .venv/bin

# Where the benchmarks find pictures and weights, and where they draw pictures of their own.
DATA ?= ../shared/data
WORK ?= runs/scale

# Where their results go: in benchmarks/ are those of ours, which they would not measure again.
RESULTS ?= runs/results

# A process has up to 4 GB.
TESTS := $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

.PHONY: run test equality check slow bench

# What transfer gained is told at 64 pixels: training a whole network takes its time.
run: .venv/installed
	$(BIN)/tlkeras
	$(BIN)/tlkeras gain --backbone="starter(size=64)" --more_sources="embedded(data='shapes', seed=1)"

test: .venv/developer
	$(TESTS) -m "not slow and not data"

# As on a processor without AVX-512: there TensorFlow runs its own kernels, oneDNN those of AVX2.
equality: .venv/developer
	TF_ENABLE_ONEDNN_OPTS=0 ONEDNN_MAX_CPU_ISA=AVX2 $(TESTS) -m "equality and not slow and not data"

slow: .venv/developer
	$(TESTS) -m "slow or data"

bench: .venv/installed
	mkdir -p $(RESULTS)
	$(BIN)/python benchmarks/speed.py --data=$(DATA)/images --weights=$(DATA)/weights/imagenet --results=$(RESULTS)/speed.jsonl
	$(BIN)/python benchmarks/scale.py --work=$(WORK) --results=$(RESULTS)/scale.jsonl
	$(BIN)/python benchmarks/parts.py --data=$(DATA)/images/flower_photos --weights=$(DATA)/weights/imagenet

check: .venv/developer
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/test_layers.py

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed; name one with make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/developer: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ .venv/installed
