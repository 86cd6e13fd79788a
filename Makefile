# make demo       create a virtual environment, install mirembed, and run the main commands on the demo dataset
# make test       linter, type checker, all tests, and the documentation
# make docs       the documentation as a site with search, in site/
# make coverage   all tests, with the share of the code that they run, which takes twice as long
# make quick      linter and the fast tests, for use while you work
# make messages   write tests/messages.txt, the snapshot of everything that the program says
# make format     fix the style
# make fuzz       extract thousands of damaged files of every format
# make torture    kill and interrupt extraction, and every other command, at 200 random moments
# make bench, make bench-scaling, make bench-memory   speed against a simple program; growth; memory
# make bench-startup   CPU time of commands that answer at once
# make bench-extract   extraction against librosa, on the same files
# make bench-library   commands on a music library of 100 000 made-up tracks
# make bench-labels   neighbors by genre, learned from genres, artists and so on: AUDIO=FOLDER LABELS=genre,artist
# make results    fill the tables of docs/results.md: GTZAN=FOLDER EMOTIFY=FOLDER for those that you have
# make bench-features   time and memory of all features, with a pretrained model that it downloads
PYTHON ?= python3
# Workers of pytest: one more than two cores, because some tests wait for other processes.
WORKERS ?= 3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO ?= demo

.PHONY: demo test docs coverage quick lint types unit messages fuzz torture bench bench-scaling bench-memory bench-startup \
	bench-extract bench-features bench-library bench-labels results format clean

demo: $(VENV)/.installed
	mkdir -p $(DEMO)
	cd $(DEMO) && $(abspath $(BIN))/mirembed extract
	cd $(DEMO) && $(abspath $(BIN))/mirembed fit --similarity rbf --epochs 40
	cd $(DEMO) && $(abspath $(BIN))/mirembed evaluate --cv 10 --epochs 40

test: lint types unit docs

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

unit: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

coverage: $(VENV)/.installed-test
	rm -f .coverage .coverage.*
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term

docs: $(VENV)/.installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

quick: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -q -m "not slow"

messages: $(VENV)/.installed-test
	$(BIN)/python tests/test_messages.py

fuzz: $(VENV)/.installed-test
	$(BIN)/python tests/fuzz.py --files $(or $(FILES),5000) --seed $(or $(SEED),0)

torture: $(VENV)/.installed-test
	MIREMBED_KILLS=$(or $(KILLS),200) MIREMBED_SECONDS=5 $(BIN)/python -m pytest -rP tests/test_kills.py \
		tests/test_interrupted_commands.py tests/test_store_command.py tests/test_tag.py

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.speed

bench-scaling: $(VENV)/.installed
	$(BIN)/python -m benchmarks.scaling

bench-memory: $(VENV)/.installed
	$(BIN)/python -m benchmarks.memory --folder .

bench-startup: $(VENV)/.installed
	$(BIN)/python -m benchmarks.startup

bench-extract: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/extract.py --files $(or $(FILES),300) --jobs $(or $(JOBS),2)

bench-features: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.features --basic-pitch

bench-library: $(VENV)/.installed
	$(BIN)/python -m benchmarks.library --tracks $(or $(TRACKS),100000)

bench-labels: $(VENV)/.installed
	$(BIN)/python -m benchmarks.labels $(AUDIO) --labels $(or $(LABELS),genre,artist)

results: $(VENV)/.installed
	$(BIN)/python -m benchmarks.results --dataset demo --dataset demo:task=regression \
		$(if $(GTZAN),--dataset gtzan $(GTZAN)) $(if $(EMOTIFY),--dataset emotify $(EMOTIFY))

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(DEMO) site .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache

# Empty files record what is installed, so that a second make has nothing to do.
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
