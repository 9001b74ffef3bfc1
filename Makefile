PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo demo-say test coverage docs gpu lint

# Made again whenever the package's metadata or the tested versions change.
setup: $(VENV)/.ready
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python -c constraints.txt -e ".[dev]"
	touch $@

demo: setup ## a small network, trained on a task whose answer is known, audited; ends with the answer and a page to open
	$(BIN)/whatwhere train --model cifar/vgg11 --width 0.25 --data known/where --recipe demo --out demo/network
	$(BIN)/whatwhere audit --model demo/network --data known/where --minutes 2 --out demo/audit
	@echo "Known: the class is where the textures are, so that shuffling early layers must leave a guess of 1 in 12 (8 %)."

demo-say: setup ## a segmentation network that speaks in concepts; ends with a page to open
	$(BIN)/whatwhere say demo --out demo-say

test: setup ## what must hold; WHATWHERE_LARGE=1 adds the costly networks
	$(BIN)/python -m pytest -n 2 --dist worksteal

coverage: setup ## docs/coverage.md: every operation on some 80 networks, an hour; goes on where it stopped
	WHATWHERE_COVERAGE=coverage-cells $(BIN)/python -m pytest -n 2 --dist worksteal tests/test_coverage.py
	WHATWHERE_COVERAGE=coverage-cells $(BIN)/python tests/coverage_table.py

$(VENV)/.docs: $(VENV)/.ready
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python -c constraints.txt -e ".[dev,docs]"
	touch $@

docs: $(VENV)/.docs ## the site, docs/_build/html/index.html; a warning is an error
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -n -q -c docs . docs/_build/html

gpu: setup ## everything that needs a GPU, the most telling first; GPU="--data cifar100=DIR --minutes 25", or GPU="--dry --device cpu"
	$(BIN)/python benchmarks/gpu.py $(GPU)

lint: setup ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests/typed_calls.py
