"""docs/store.md: its tables match what the program writes, and its examples open the files."""

from __future__ import annotations

import ast
import contextlib
import fnmatch
import importlib.util
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from conftest import CLASSES, RATE, tone
from made_once import made_once
from pages import blocks, invoke, read, sections, table
from safetensors.numpy import load_file
from small_store import workers_run

from mirembed import statistics

pytestmark = pytest.mark.slow

STYLES = ("bossa", "house", "jig")
TASKS = ("classification", "regression", "tags")
TARGETS = ("arousal", "valence")
TAGS = (
    *("upright", "accordion", "fiddle", "guitar", "flute", "epiano", "clarinet", "synthbass", "sub", "organ"),
    *("strings", "saw", "fast", "minor", "bright", "loud"),
)
"""Those that the few clips of the test have."""


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder with one folder per task, each with a store of tones that has every kind of file."""
    return made_once(tmp_path_factory, "every-file", write_every_file)


def write_every_file(folder: Path) -> None:
    for style, frequency in zip(STYLES, CLASSES.values(), strict=True):
        (folder / "audio" / style).mkdir(parents=True)
        for number in range(4):
            clip = folder / "audio" / style / f"{style}-{number:02d}.wav"
            soundfile.write(clip, tone(frequency, 1.0, seed=number), RATE)
    (folder / "audio" / "jig" / "jig-05.wav").write_bytes(b"no audio")
    approaches = [word for name in ("nn", "fl", "rbf-sl") for word in ("--approach", name)]
    short = ("--excerpt", "10", "--engine", "torch", "--epochs")
    with workers_run():
        for task in TASKS:
            (folder / task).mkdir()
            with contextlib.chdir(folder / task):
                dataset = "demo" if task == "classification" else f"demo:task={task}"
                invoke("extract", "--dataset", dataset, "--audio", "../audio", code=2)
                invoke("fit", *approaches, *short, "1")
                invoke("fit", "--learner", "svm:kernel=match", *short, "1", "--name", "matching")
                invoke(
                    "evaluate",
                    *("--cv", "2", *approaches, *short, "2", "--keep-models", "--checkpoint-every", "1"),
                    *("--select", "learner.C=1|10", "--inner-cv", "2", "--combine", "stacked:nn|nn@mlp@logmel"),
                )
                invoke("datasets", "check", dataset, "--audio", "../audio", code=1)
                invoke("duplicates", "matching")


def described_files() -> dict[str, str]:
    """Return the section of docs/store.md about each file that it describes, by the pattern of its path."""
    page = read("docs/store.md")
    titled = {**sections(page, 2), **sections(page, 3)}
    paths = {title: re.search(r"`(.+)`", title) for title in titled}
    return {re.sub(r"[A-Z]+", "*", path[1]): titled[title] for title, path in paths.items() if path}


def described_columns(body: str, task: str) -> dict[str, str]:
    """Return the columns of a section's table and their types, for a task."""
    columns = {}
    for name, kind, what in table(body):
        if any(f"{other} only" in what for other in TASKS if other != task):
            continue
        names = {"TARGET": TARGETS, "TAG": TAGS, "CLASS": STYLES}
        if word := next((word for word in names if word in name), None):
            columns |= {name.replace(word, one): kind for one in names[word]}
        else:
            columns[name] = kind
    return columns


def short_type(kind: pa.DataType) -> str:
    """Return an Arrow type in the words of docs/store.md."""
    if pa.types.is_list(kind):
        inner = short_type(kind.value_type)
        return inner.replace("[", "[n_frames, ") if "[" in inner else f"list of {inner}"
    if pa.types.is_fixed_size_list(kind):
        return f"float32 [{kind.list_size}]"
    return {"double": "float64"}.get(str(kind), str(kind))


@pytest.mark.parametrize("task", TASKS)
def test_every_file_of_a_store_is_described(task, work):
    store = work / task / "mirembed-store"
    files = {str(path.relative_to(store)) for path in store.rglob("*") if path.is_file() and path.name != ".lock"}
    files = {re.sub(r"^runs/[^/]+/models/", "models/", file) for file in files if not file.endswith(".f32")}
    patterns = [*described_files(), "models/*/learner.skops"]
    assert [file for file in files if not any(fnmatch.fnmatch(file, pattern) for pattern in patterns)] == []
    assert [pattern for pattern in patterns if not fnmatch.filter(files, pattern)] == []


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("pattern", [pattern for pattern in described_files() if pattern.endswith(".parquet")])
def test_the_columns_match_what_the_program_writes(pattern, task, work):
    described = described_columns(described_files()[pattern], task)
    files = list((work / task / "mirembed-store").glob(pattern))
    assert files
    for file in files:
        assert {field.name: short_type(field.type) for field in pq.read_schema(file)} == described


@pytest.mark.parametrize(
    "pattern",
    [p for p in described_files() if p.endswith(("manifest.json", "store.json", "dataset.json", "model.json"))],
)
def test_the_keys_match_what_the_program_writes(pattern, work):
    files = list(work.glob(f"*/mirembed-store/{pattern}"))
    assert files
    for file in files:
        assert list(json.loads(file.read_text())) == [key for key, _ in table(described_files()[pattern])]


def test_the_scores_are_described(work):
    scores = [json.loads(file.read_text()) for file in work.glob("*/mirembed-store/runs/*/scores.json")]
    keys = {key for run in scores for of_approach in run.values() for key in of_approach}
    assert keys == set(re.findall(r"`(\w+)`", described_files()["runs/*/scores.json"])) - {"mean", "low", "high"}


def test_the_tensors_match_what_the_program_writes(work):
    described = {name: kind for name, kind, _ in table(described_files()["models/*/network.safetensors"])}
    seen = set()
    for file in work.glob("*/mirembed-store/models/*/network.safetensors"):
        for name, tensor in load_file(file).items():
            kind = re.sub("outputs|targets|tags|tracks", str(len(tensor)), described[name])
            assert kind == f"{tensor.dtype} {list(tensor.shape)}", name
            seen.add(name)
    assert seen == set(described)


def test_the_examples_that_open_files_work(work, monkeypatch):
    monkeypatch.chdir(work / "classification")
    (run,) = Path("mirembed-store/runs").iterdir()
    optional = {"pd": "pandas", "duckdb": "duckdb"}
    missing = {alias for alias, module in optional.items() if importlib.util.find_spec(module) is None}
    scope: dict[str, object] = {}
    for block in blocks(read("docs/store.md").replace("/RUN/", f"/{run.name}/"), "python"):
        assert all(any(Path().glob(path)) for path in re.findall(r"mirembed-store/[^'\"]+", block)), block
        for statement in ast.parse(block).body:
            names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
            names |= {alias.asname or alias.name for alias in getattr(statement, "names", [])}
            if not names & missing:
                exec(ast.unparse(statement), scope)


def test_a_comparison_has_the_columns_shown_in_the_docs(work, capsys):
    (run,) = (work / "classification" / "mirembed-store" / "runs").iterdir()
    capsys.readouterr()
    invoke("compare", str(run))
    printed = capsys.readouterr().out
    (told,) = blocks(sections(read("docs/comparing.md"), 2)["Comparing"], "console")

    def headings(text: str) -> list[list[str]]:
        lines = [line for line in text.splitlines() if line.startswith("┃")]
        return [[cell.strip() for cell in line.split("┃")[1:-1]] for line in lines[:2]]

    assert headings(printed)[0] == headings(told)[0]


def test_the_statistical_tests_named_in_the_docs_exist():
    text = sections(read("docs/comparing.md"), 2)["Comparing"]
    names = re.findall(r"`(\w+)`", text[text.index("mirembed.statistics") :])
    assert "holm" in names
    assert [name for name in names if not callable(getattr(statistics, name, None))] == []
