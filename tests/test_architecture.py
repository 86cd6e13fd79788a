"""The layers of the core, what starting costs, and that nothing that is loaded can run code."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import clean_environment, write_tones
from pages import invoke
from small_runs import write_run
from small_store import experiment, give_files, open_tracks, workers_run, write_classes

import mirembed
from mirembed import hookspecs
from mirembed.cli.main import app
from mirembed.fit import fit
from mirembed.registry import HOOKS, Registry
from mirembed.store import Store
from mirembed.training.engine import choose_engine, reason_against_numba

LAYERS = [
    {"differences", "errors", "hookspecs", "interruption", "listings", "progress", "provenance", "specs"},
    {"audio", "config", "registry", "statistics", "workers"},
    {"features"},
    {"store"},
    {"extract", "scaffold", "training"},
    {"datasets", "models"},
    {"fit", "library", "runs", "testing"},
    {"compare", "evaluate", "inventory", "model_card"},
    {"removal", "reports"},
    {"api"},
    {"cli", "sklearn"},
]
"""The packages of the core, lowest layer first: each imports only lower layers, and modules of layer 0 each other."""

LAYER = {package: number for number, packages in enumerate(LAYERS) for package in packages}
CORE = Path(mirembed.__file__).parent
PLUGINS = (
    "mirembed_datasets",
    "mirembed_features",
    "mirembed_networks",
    "mirembed_similarities",
    "mirembed_learners",
)
HEAVY = {
    *(
        "essentia",
        "jinja2",
        "matplotlib",
        "numba",
        "numpy",
        "pandas",
        "pyarrow",
        "scipy",
        "sklearn",
        "skops",
        "soundfile",
        "soxr",
        "torch",
    ),
}
RUNS_CODE = {"cloudpickle", "dill", "marshal", "pickle", "shelve"}


class Import(NamedTuple):
    """``from module import name``, or ``import module`` with no name."""

    file: Path
    module: str
    name: str | None


@functools.cache
def sources(*packages: str) -> dict[Path, ast.Module]:
    """The syntax trees of all files of packages."""
    folders = [Path(__import__(package).__file__).parent for package in packages]
    return {path: ast.parse(path.read_text()) for folder in folders for path in sorted(folder.rglob("*.py"))}


@functools.cache
def imports(*packages: str) -> list[Import]:
    """Every import of packages, in functions and for the type checker too."""
    found: list[Import] = []
    for path, tree in sources(*packages).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found += (Import(path, alias.name, None) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path} imports relatively"
                found += (Import(path, node.module, alias.name) for alias in node.names)
    return found


def package(file: Path) -> str:
    return file.relative_to(CORE).parts[0].removesuffix(".py")


def imported_file(found: Import) -> Path | None:
    """The imported file of the core: a module, a package's ``__init__.py``, or that of ``mirembed``; None: not ours."""
    package, *parts = found.module.split(".")
    if package != "mirembed":
        return None
    named = CORE.joinpath(*parts, found.name or "")
    candidates = [named.with_suffix(".py"), named / "__init__.py", CORE.joinpath(*parts).with_suffix(".py")]
    return next((path for path in candidates if path.is_file()), CORE.joinpath(*parts, "__init__.py"))


def run_in_process(*commands: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[str, set[str]]:
    """Run commands in a new process, and return what they print and the packages that they import."""
    code = (
        "import json, sys\n"
        "from mirembed.cli.main import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    sys.argv = ['mirembed', *words]\n"
        "    try:\n        main()\n"
        "    except SystemExit as end:\n        assert not end.code, end.code\n"
        "print('packages:', *{name.partition('.')[0] for name in sys.modules})\n"
    )
    completed = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(env),
    )
    printed, _, packages = completed.stdout.rpartition("packages:")
    return printed, set(packages.split())


def test_the_core_imports_no_plugin():
    found = [i for i in imports("mirembed") if i.module.partition(".")[0].startswith("mirembed_")]
    assert found == []


def test_plugins_import_only_the_public_names_of_the_core():
    found = [i for i in imports(*PLUGINS) if i.module.partition(".")[0] == "mirembed"]
    assert found
    assert [i for i in found if i.module != "mirembed" or i.name not in mirembed.__all__] == []


def test_every_package_has_its_layer():
    doors = {"__init__.py", "__main__.py"}
    built = {package(path) for path in CORE.rglob("*.py") if path.relative_to(CORE).parts[0] not in doors}
    assert built == set(LAYER)


def test_a_package_imports_only_packages_of_lower_layers():
    wrong = []
    for found in imports("mirembed"):
        target = imported_file(found)
        here, there = package(found.file), package(target) if target else None
        if here in LAYER and there in LAYER and here != there and not LAYER[there] < LAYER[here] and LAYER[here]:
            wrong.append(f"{found.file.relative_to(CORE)} imports {there}")
    assert wrong == []


def test_layer_0_imports_nothing_above_it():
    found = [i for i in imports("mirembed") if LAYER.get(package(i.file)) == 0]
    assert [i for i in found if (target := imported_file(i)) and LAYER.get(package(target)) != 0] == []


def test_no_imports_form_a_circle():
    graph: dict[Path, set[Path]] = {}
    for found in imports("mirembed"):
        target = imported_file(found)
        if target is not None and target != found.file:
            graph.setdefault(found.file, set()).add(target)
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the files


def test_the_interface_for_plugins_comes_from_the_lowest_layers():
    found = {i.module for i in imports("mirembed") if i.file == CORE / "__init__.py"}
    ours = {module for module in found if module.startswith("mirembed")} - {"mirembed.api"}
    audio = {f"mirembed.audio.{name}" for name in ("by_essentia", "file_tags", "files", "playlists", "samples")}
    assert ours == {*audio, "mirembed.errors", "mirembed.hookspecs", "mirembed.interruption", "mirembed.progress"}


def test_the_built_in_plugins_come_through_the_entry_points_of_the_group():
    points = importlib.metadata.entry_points(group=hookspecs.PROJECT)
    own = {point.module for point in points if point.dist and point.dist.name == "mirembed"}
    assert own == set(PLUGINS)


def test_the_extension_points_are_those_that_their_page_describes():
    page = " ".join(hookspecs.__doc__.split())
    marked = {name for name, value in vars(hookspecs).items() if hasattr(value, f"{hookspecs.PROJECT}_spec")}
    assert marked == {*HOOKS.values(), "mirembed_register_commands"}
    assert f"the entry-point group ``{hookspecs.PROJECT}``" in page

    example = re.search(r"( {4}from mirembed import hookimpl.*?)\n\nThe factory", hookspecs.__doc__, re.DOTALL)[1]
    registered = {}
    scope = {"Laplacian": lambda gamma: gamma}
    exec("if True:\n" + example, scope)
    scope["mirembed_register_similarities"](lambda name, factory, *, summary: registered.update({name: factory}))
    assert registered == {"laplacian": scope["Laplacian"]}


COMMANDS = [
    *([command.name] for command in app.registered_commands),
    *([group.name] for group in app.registered_groups),
    *(
        [group.name, command.name]
        for group in app.registered_groups
        for command in group.typer_instance.registered_commands
    ),
]


def test_help_imports_nothing_heavy_and_no_plugin():
    printed, packages = run_in_process(*([*words, "--help"] for words in ([], *COMMANDS)))
    shown = re.findall(r"Usage: (.*?) (?:\[|[A-Z])", printed)
    assert shown == [" ".join(["mirembed", *words]) for words in ([], *COMMANDS)]
    assert packages & {*HEAVY, *PLUGINS} == set()


def test_plugins_are_listed_without_importing_what_they_compute_with():
    printed, packages = run_in_process(["plugins"])
    assert "polynomial" in printed
    assert packages & (HEAVY - {"numpy"}) == set()


def test_nothing_is_loaded_that_can_run_code():
    found = [*imports("mirembed"), *imports(*PLUGINS)]
    assert [i for i in found if i.module.partition(".")[0] in RUNS_CODE] == []
    assert [i for i in found if i.module in ("torch", "joblib", "numpy") and i.name in ("load", "save")] == []
    for path, tree in {**sources("mirembed"), **sources(*PLUGINS)}.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in ("torch.load", "joblib.load", "eval", "exec"), path
                uses = [name, *map(ast.unparse, node.args)]  # as the argument of functools.partial too
                safe = [ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg == "allow_pickle"]
                assert safe == ["False"] * ({"np.load", "numpy.load"} & {*uses} != set()), path


@pytest.fixture(scope="module")
def fitted_store(tmp_path_factory):
    """A store with a fitted model of each kind, by ``numba`` where it works."""
    store = tmp_path_factory.mktemp("fitted") / "store"
    features = write_classes(store)
    engine = choose_engine("auto", "cpu", lambda note: None)
    with workers_run():
        described = experiment("rbf-sl", "nn", epochs=1, engine=engine)
        fit(open_tracks(features), features, described, Registry.discover(), Store(store).models, seed=0, jobs=1)
    give_files(Store(store), store.parent / "audio")
    return store


def test_similar_on_stored_embeddings_imports_only_what_reads_them(fitted_store):
    words = [["similar", model, "000", "--store", str(fitted_store)] for model in ("folder-rbf-sl", "folder-nn")]
    with workers_run():
        for command in words:
            invoke(*command)  # the first query makes the index of the library
    printed, packages = run_in_process(*words)
    assert len(re.findall(r"^│ +\d+ │", printed, re.MULTILINE)) == 20
    assert packages & HEAVY <= {"numpy", "pyarrow"}
    assert "pydantic" not in packages


def test_commands_that_only_read_import_no_engine_and_no_learner(fitted_store):
    write_run(fitted_store / "runs" / "run")
    at = ["--store", str(fitted_store)]
    commands = [["compare", "run", *at], ["store", "info", *at], ["datasets", *at], ["datasets", "show", "gtzan"]]
    _, packages = run_in_process(*commands)
    assert packages & {"numba", "pandas", "sklearn", "skops", "torch"} == set()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["folder-rbf-sl", "folder-nn"])
def test_predict_with_the_fused_engine_does_not_import_torch(fitted_store, model, tmp_path):
    if reason_against_numba() is not None:
        pytest.skip("torch computes everything here")
    write_tones(tmp_path, n_tracks=1, seconds=0.3)
    printed, packages = run_in_process(["predict", model, str(tmp_path), "--store", str(fitted_store), "--json"])
    assert len(json.loads(printed)["predictions"]) == 3
    assert "torch" not in packages
    assert ("sklearn" in packages) == (model != "folder-nn")
