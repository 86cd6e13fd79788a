# make demo   a virtual environment, the package, and the main job on the embedded dataset
# make test   lint, types and tests
# make fuzz   extracts thousands of damaged files of every format
# make torture   kills extraction at 200 random moments
# make bench, make bench-scaling, make bench-memory   speed beside the obvious program; growth; memory
# make bench-extract   measures extraction against librosa, on the same files in one run
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO ?= demo

.PHONY: demo test lint types unit fuzz torture bench bench-scaling bench-memory bench-extract format clean

demo: $(VENV)/.installed
	mkdir -p $(DEMO)
	cd $(DEMO) && $(abspath $(BIN))/mirembed extract
	cd $(DEMO) && $(abspath $(BIN))/mirembed fit --similarity rbf --epochs 40
	cd $(DEMO) && $(abspath $(BIN))/mirembed evaluate --cv 10 --epochs 40

test: lint types unit

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

unit: $(VENV)/.installed-test
	rm -f .coverage .coverage.*
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term

fuzz: $(VENV)/.installed-test
	$(BIN)/python tests/fuzz.py --files $(or $(FILES),5000) --seed $(or $(SEED),0)

torture: $(VENV)/.installed-test
	MIREMBED_KILLS=200 $(BIN)/python -m pytest tests/test_kills.py

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.speed

bench-scaling: $(VENV)/.installed
	$(BIN)/python -m benchmarks.scaling

bench-memory: $(VENV)/.installed
	$(BIN)/python -m benchmarks.memory --folder .

bench-extract: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/extract.py --files $(or $(FILES),300) --jobs $(or $(JOBS),2)

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(DEMO) .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache

# Plain files say what is installed, so that a second make has nothing to do.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt .
	touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,bench]"
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
