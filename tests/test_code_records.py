"""A run and a fit name the code that made them, and are never resumed with other code, versions or machines."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from conftest import run_here
from pages import invoke
from small_runs import write_run
from small_store import Notes, evaluate, experiment, open_tracks, workers_run, write_classes
from third_party import found_in, install

from mirembed import provenance
from mirembed.differences import ask_the_same, made_with
from mirembed.errors import PluginError, StoreError
from mirembed.evaluate import plan
from mirembed.provenance import environment, files_digest, processor, recorded_plugins, versions
from mirembed.registry import Plugin, Registry
from mirembed.registry.source import source_digest
from mirembed.runs.folder import PartFolder, RunFolder, list_runs
from mirembed.specs import Spec
from mirembed.store.files import read_json

PLUGIN = """\
import glob
import os

from mirembed import hookimpl


class Own:
    def __init__(self, factor: float = 1.0):
        self.factor = factor

    def __call__(self, x):
        if glob.glob(os.environ.get("INTERRUPT_AT", "")):
            raise KeyboardInterrupt
        return self.factor * x @ x.mT


@hookimpl
def mirembed_register_similarities(register):
    register("own", Own)
"""
"""A similarity that presses ctrl-C once a file exists."""

EVALUATE = ("evaluate", "--store", "s", "--cv", "3", "--epochs", "2", "--network", "mlp", "--similarity", "own")
FIT = ("fit", "--store", "s", "--epochs", "11", "--network", "mlp", "--similarity", "own")


def edit(path: Path) -> None:
    path.write_text(path.read_text().replace("return self.factor *", "return 2 * self.factor *"))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    write_classes(tmp_path / "s", 18)
    return tmp_path


@pytest.fixture(params=["file", "package"])
def plugin(request: pytest.FixtureRequest, work: Path) -> tuple[tuple[str, ...], dict[str, str], Path]:
    """The flags and variables that add a similarity, and the file to edit: one file, or the module of a package."""
    if request.param == "file":
        (work / "mine").mkdir()
        source = work / "mine" / "own.py"
        source.write_text(PLUGIN)
        return ("--plugins-dir", "mine"), {}, source
    glue = "from own_model.core import mirembed_register_similarities\n"
    environment = install(work / "site", "mirembed-own", glue)
    package = work / "site" / "own_model"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "core.py").write_text(PLUGIN)
    return (), environment, package / "core.py"


def run(work: Path, words: Sequence[str], env: Mapping[str, str], code: int = 0) -> subprocess.CompletedProcess[str]:
    done = run_here(work, words, env)
    assert done.returncode == code, done.stderr
    return done


@pytest.mark.slow
def test_a_run_is_not_resumed_with_other_code_and_says_why(plugin, work):
    flags, env, source = plugin
    words = (*flags, *EVALUATE)
    run(work, words, {**env, "INTERRUPT_AT": "s/runs/*/parts/*fold0"}, code=1)
    [first] = (work / "s" / "runs").iterdir()
    before = {path: path.read_bytes() for path in first.rglob("*.parquet")}
    manifest = read_json(first / "manifest.json")  # two runs may start in one second
    (first / "manifest.json").write_text(json.dumps({**manifest, "started": "2026-01-01T00:00:00+00:00"}))

    edit(source)
    done = run(work, (*words, "--json"), env)
    second = work / json.loads(done.stdout)["run"]
    assert second != first
    [why] = [line for line in done.stderr.splitlines() if first.name in line]
    codes = [_similarity(folder)["code"].removeprefix("sha256:")[:12] for folder in (first, second)]
    assert codes[0] != codes[1]
    for fact in ("code of similarity", *codes):
        assert fact in why
    assert {path: path.read_bytes() for path in first.rglob("*.parquet")} == before

    again = run(work, (*words, "--json"), env)  # the latest run of this command is finished: nothing to explain
    assert first.name not in again.stderr

    source.write_text(PLUGIN)
    resumed = run(work, (*words, "--json"), env)
    assert work / json.loads(resumed.stdout)["run"] == first
    [line] = [line for line in resumed.stderr.splitlines() if first.name in line]
    assert "1 of 3 trainings" in line


def _similarity(folder: Path) -> Mapping[str, str]:
    [approach] = read_json(folder / "manifest.json")["configuration"]["approaches"].values()
    return approach["similarity"]


@pytest.mark.slow
def test_a_fit_is_not_resumed_with_other_code_and_says_why(plugin, work):
    flags, env, source = plugin
    checkpoints = work / "s" / "models" / ".checkpoints"
    run(work, (*flags, *FIT), {**env, "INTERRUPT_AT": "s/models/.checkpoints/*.safetensors"}, code=1)
    assert list(checkpoints.glob("*.safetensors"))
    edit(source)
    done = run(work, (*flags, *FIT, "--json"), env)
    assert [line for line in done.stderr.splitlines() if "code of similarity" in line]
    assert not [line for line in done.stderr.splitlines() if "resuming" in line]
    [model] = json.loads(done.stdout)["models"]
    used = read_json(work / model["model"] / "model.json")["provenance"]
    assert used["settings"]["approaches"]["own-sl"]["similarity"]["code"].startswith("sha256:")
    assert (used["processor"], used["code"]) == (processor(), provenance.core_code())
    assert list(checkpoints.glob("[!.]*.safetensors")) == []  # those of the old code were of no more use
    assert "code of similarity" not in run(work, (*flags, *FIT), env).stderr


@pytest.mark.slow
def test_a_plugin_that_is_edited_while_a_run_trains_fails_the_run_clearly(work, monkeypatch):
    (work / "mine").mkdir()
    source = work / "mine" / "own.py"
    source.write_text(PLUGIN)
    write = PartFolder.write

    def edit_and_write(*arguments: object, **options: object) -> None:
        edit(source)
        write(*arguments, **options)

    monkeypatch.setattr(PartFolder, "write", edit_and_write)
    done = run(work, ("--plugins-dir", "mine", *EVALUATE), {}, code=1)
    [error] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "similarity own.py/own" in error
    [part] = work.glob("s/runs/*/parts/*")  # of the code that the run records
    assert part.name.endswith("fold0")


@pytest.mark.slow
def test_a_file_that_a_run_used_is_copied_into_it_and_can_repeat_it(work):
    (work / "mine").mkdir()
    (work / "mine" / "own.py").write_text(PLUGIN)
    (work / "mine" / "unused.py").write_text(PLUGIN.replace('"own"', '"unused"'))
    words = (*EVALUATE, "--epochs", "1", "--json")
    done = run(work, ("--plugins-dir", "mine", *words), {})
    folder = work / json.loads(done.stdout)["run"]
    [copy] = (folder / "plugins").iterdir()
    assert (copy.name, copy.read_text()) == ("own.py", PLUGIN)
    assert _similarity(folder)["file_hash"] == f"sha256:{hashlib.sha256(PLUGIN.encode()).hexdigest()}"

    edit(work / "mine" / "own.py")
    repeated = run(work, ("--plugins-dir", str(folder / "plugins"), *words), {})
    other = work / json.loads(repeated.stdout)["run"]
    assert (other / "predictions.parquet").read_bytes() == (folder / "predictions.parquet").read_bytes()


@pytest.mark.slow
def test_an_interrupted_experiment_is_not_resumed_with_other_code(work, monkeypatch, capsys):
    """Its runs are in one folder, so that the whole experiment starts anew."""
    monkeypatch.chdir(work)
    (work / "e.toml").write_text(
        'epochs = 1\ncv = 2\n[[evaluation]]\nname = "a"\napproach = ["chance"]\n'
        '[[evaluation]]\nname = "b"\nsimilarity = ["own"]\nnetwork = ["mlp"]\n'
    )
    (work / "mine").mkdir()
    (work / "mine" / "own.py").write_text(PLUGIN)
    words = ["--plugins-dir", "mine", "evaluate", "--store", "s", "--config", "e.toml", "--jobs", "1", "--json"]
    with workers_run():
        invoke(*words)
    [first] = (work / "s" / "runs").iterdir()
    for folder in (first, first / "b"):
        manifest = read_json(folder / "manifest.json")
        (folder / "manifest.json").write_text(json.dumps({**manifest, "finished": None}))
    capsys.readouterr()
    edit(work / "mine" / "own.py")
    with workers_run():
        invoke(*words)
    out, err = capsys.readouterr()
    assert json.loads(out)
    assert len(list((work / "s" / "runs").iterdir())) == 2
    assert [line for line in err.splitlines() if first.name in line and "code of similarity own.py/own" in line]


# What a manifest holds


@pytest.mark.parametrize(
    ("name", "value"), [("processor", "another"), ("code", "sha256:0"), ("versions", {**versions(), "numpy": "1.0"})]
)
def test_a_run_is_not_resumed_on_another_machine_or_with_another_mirembed(work, monkeypatch, name, value):
    tracks, registry, notes = open_tracks(write_classes(work / "t", 9)), Registry.discover(), Notes()
    settings = experiment("chance", cv=3)
    with workers_run():
        first, _ = evaluate(tracks, settings, registry, work / "runs")
        _unfinish(first)
        again, _ = evaluate(tracks, settings, registry, work / "runs", progress=notes)
        assert again.folder == first.folder
        _unfinish(first)
        here = environment()
        monkeypatch.setattr(plan, "environment", lambda device: {**here, name: value})
        other, _ = evaluate(tracks, settings, registry, work / "runs", progress=notes)
    assert other.folder != first.folder
    [note] = [note for note in notes.notes if "cannot be resumed" in note]
    assert {"processor": "processor", "code": "code of mirembed", "versions": "versions.numpy"}[name] in note


def _unfinish(run: RunFolder) -> None:
    manifest = run.manifest
    (run.folder / "manifest.json").write_text(json.dumps({**manifest, "finished": None}))


def test_a_manifest_names_the_code_of_every_plugin(work):
    tracks, registry = open_tracks(write_classes(work / "t", 9)), Registry.discover()
    with workers_run():
        run, _ = evaluate(tracks, experiment("rbf-sl", cv=3, epochs=1), registry, work / "runs")
    configuration = run.manifest["configuration"]
    used = {(plugin["kind"], plugin["name"]): plugin["code"] for plugin in recorded_plugins(configuration)}
    assert {("similarity", "rbf"), ("learner", "svm")} <= used.keys()
    for (kind, name), code in used.items():
        assert code == registry.provenance(kind, Spec(name))["code"]
    assert (configuration["processor"], configuration["code"]) == (processor(), provenance.core_code())


def test_official_folds_that_changed_start_a_new_run(work):
    from mirembed import Split

    tracks, registry, notes = open_tracks(write_classes(work / "t", 9)), Registry.discover(), Notes()
    settings = experiment("chance", folds="own")
    ids = tracks.ids

    def splits(k: int) -> dict[str, list[Split]]:
        return {"own": [Split(frozenset(ids[k:]), frozenset(ids[:k]))]}

    with workers_run():
        first, _ = evaluate(tracks, settings, registry, work / "runs", official=splits(3))
        _unfinish(first)
        other, _ = evaluate(tracks, settings, registry, work / "runs", official=splits(6), progress=notes)
    assert other.folder != first.folder
    assert [note for note in notes.notes if "folds_digest" in note]


def test_a_run_at_a_given_place_is_refused_with_the_differences(work):
    folder = write_run(work / "run", finished=None)
    configuration = read_json(folder / "manifest.json")["configuration"]
    assert RunFolder.resume_at(folder, configuration, "").folder == folder
    with pytest.raises(StoreError, match=r"epochs was 400 and is 401"):
        RunFolder.resume_at(folder, {**configuration, "epochs": 401}, "")
    assert [one.folder for one in list_runs(work)] == [folder]


# How two runs differ

ONE = {
    "epochs": 9,
    "engine": "numba",
    "approaches": {"x-sl": {"similarity": {"kind": "similarity", "name": "x", "distribution": "m", "version": "1"}}},
    "versions": {"numpy": "1", "numba": "3"},
    "code": "sha256:aaaaaaaaaaaaaaaa",
    "processor": "fast",
}
ONE["approaches"]["x-sl"]["similarity"] |= {"code": "sha256:0123456789abcdef", "parameters": {"engine": 1}}


def changed(**changes: object) -> dict[str, object]:
    other = json.loads(json.dumps(ONE))
    plugin = other["approaches"]["x-sl"]["similarity"]
    for name, value in changes.items():
        if name in plugin:
            plugin[name] = value
        else:
            other[name] = value
    return other


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (changed(), {}),
        (changed(epochs=10), {}),
        (changed(engine="torch"), {"engine": ("numba", "torch")}),
        (changed(processor="slow"), {"processor": ("fast", "slow")}),
        (
            changed(code="sha256:fedcba9876543210"),
            {"code of similarity m/x": ("0123456789ab", "fedcba987654")},
        ),
        (changed(version="2"), {"version of similarity m/x": ("1", "2")}),
        (changed(versions={"numpy": "1"}), {"versions.numba": ("3", None)}),
        ({**changed(), "code": "sha256:bbb"}, {"code of mirembed": ("aaaaaaaaaaaa", "bbb")}),
        ({"evaluations": {"a": changed(engine="torch")}}, {"engine": ("numba", "torch")}),
    ],
)
def test_what_runs_were_made_with_is_compared(other, expected):
    one = {"evaluations": {"a": ONE}} if "evaluations" in other else ONE
    assert made_with(one, other) == expected


def test_a_command_asks_the_same_whatever_carries_it_out():
    assert ask_the_same(ONE, changed(code="sha256:1", version="2", engine="torch", processor="x", versions={}))
    assert not ask_the_same(ONE, changed(epochs=10))
    assert not ask_the_same(ONE, changed(parameters={"engine": 2}))  # a parameter of a plugin that has such a name


def test_compare_says_what_two_runs_were_made_with(work, capsys, monkeypatch):
    monkeypatch.chdir(work)
    for name, content in (("one", {}), ("other", {"processor": "slow", "engine": "torch"})):
        write_run(work / "s" / "runs" / name, **{**{key: ONE[key] for key in ("processor", "engine")}, **content})
    invoke("compare", "one", "other", "--store", "s", "--json")
    found = json.loads(capsys.readouterr().out)["settings"]
    assert found == {"engine": ["numba", "torch"], "processor": ["fast", "slow"]}
    invoke("compare", "one", "other", "--store", "s")
    assert [line for line in capsys.readouterr().out.splitlines() if "processor: fast and slow" in line]


# The source of a plugin

HOOK = """
from mirembed import hookimpl

@hookimpl
def mirembed_register_similarities(register):
    register("made", {factory})
"""


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The digest of the similarity ``made``, with these folders or archives on Python's path."""

    def of(*paths: Path) -> str:
        source_digest.cache_clear()
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in sys.modules if name.startswith(("mirembed_made", "made_"))]:
                patch.delitem(sys.modules, name)
            for path in paths:
                patch.syspath_prepend(path)
            registry = Registry.discover()
            assert not registry.broken
            found = registry.provenance("similarity", Spec("made"))["code"]
            for name in [name for name in sys.modules if name.startswith(("mirembed_made", "made_"))]:
                del sys.modules[name]
        return found

    return of


def test_the_code_is_that_of_a_package_and_its_data_without_bytecode(code, tmp_path):
    install(tmp_path, "mirembed-made", HOOK.format(factory="lambda: None"))
    (tmp_path / "mirembed_made.py").rename(tmp_path / "source")
    package = tmp_path / "mirembed_made"
    package.mkdir()
    (tmp_path / "source").rename(package / "__init__.py")
    first = code(tmp_path)
    assert first.startswith("sha256:")
    shutil.rmtree(package / "__pycache__", ignore_errors=True)
    assert code(tmp_path) == first
    for ignored in ("__pycache__/made.pyc", ".notes.swp", "made.py~", ".git/made.py"):
        (package / ignored).parent.mkdir(exist_ok=True)
        (package / ignored).touch()
    assert code(tmp_path) == first
    (package / "table.csv").write_text("1")
    second = code(tmp_path)
    (package / "deep").mkdir()
    (package / "deep" / "native.so").write_bytes(b"\x7fELF")
    assert len({first, second, code(tmp_path)}) == 3


def test_the_code_does_not_depend_on_where_it_lies(code, tmp_path):
    found = set()
    for name in ("one", "two"):
        install(tmp_path / name, "mirembed-made", HOOK.format(factory="lambda: None"))
        found.add(code(tmp_path / name))
    assert len(found) == 1


@pytest.mark.parametrize(
    ("imports", "factory"),
    [
        ("from made_helper import Made", "Made"),
        ("import math, made_helper as h", "h.Made"),
        ("from made_helper import (\n    Made,\n)", "Made"),
        ("def make():\n    from made_helper import Made\n    return Made()", "make"),
        ("import functools\nfrom made_helper import Made", "functools.partial(Made)"),
        ("from made_space.deep import Made", "Made"),
        ("from made_space import deep", "deep.Made"),
        ("from made_package.core import Made", "Made"),
    ],
)
def test_modules_that_a_plugin_imports_are_part_of_its_code_if_they_are_not_installed(code, tmp_path, imports, factory):
    install(tmp_path, "mirembed-made", imports + HOOK.format(factory=factory))
    helper = "class Made:\n    number = 1\n"
    for path in ("made_helper.py", "made_space/deep.py", "made_package/core.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(helper)
    (tmp_path / "made_package" / "__init__.py").touch()
    first = code(tmp_path)
    for path in ("made_helper.py", "made_space/deep.py", "made_package/core.py"):
        (tmp_path / path).write_text(helper.replace("1", "2"))
    assert code(tmp_path) != first


def test_a_plugin_in_a_namespace_package_has_its_own_code(code, tmp_path):
    install(tmp_path, "mirembed-made", "")
    (tmp_path / "mirembed_made-1.0.dist-info" / "entry_points.txt").write_text("[mirembed]\nplugin = made_space.plug\n")
    (tmp_path / "made_space").mkdir()
    (tmp_path / "made_space" / "plug.py").write_text(HOOK.format(factory="lambda: None"))
    first = code(tmp_path)
    (tmp_path / "made_space" / "stranger.py").write_text("1")
    assert code(tmp_path) == first
    (tmp_path / "made_space" / "plug.py").write_text("from .net import Net\n" + HOOK.format(factory="Net"))
    (tmp_path / "made_space" / "net.py").write_text("class Net: ...\n")
    second = code(tmp_path)
    (tmp_path / "made_space" / "net.py").write_text("class Net: number = 1\n")
    assert len({first, second, code(tmp_path)}) == 3


def test_what_is_installed_and_not_of_the_distribution_is_no_part_of_its_code(code, tmp_path):
    site = tmp_path / "site-packages"
    install(site, "mirembed-made", "import made_other, made_own\n" + HOOK.format(factory="lambda: None"))
    for name in ("made_other", "made_own"):
        (site / f"{name}.py").write_text("1")
    record = "mirembed_made.py,,\nmade_own.py,,\nmirembed_made-1.0.dist-info/RECORD,,\n"
    (site / "mirembed_made-1.0.dist-info" / "RECORD").write_text(record)
    first = code(site)
    (site / "made_other.py").write_text("2")
    assert code(site) == first
    (site / "made_own.py").write_text("2")
    second = code(site)
    (site / "mirembed_made.py").write_text("import made_own\n" + HOOK.format(factory="lambda: None"))
    assert len({first, second, code(site)}) == 3


def test_a_plugin_in_an_archive_has_the_code_of_the_archive(code, tmp_path):
    found = []
    for factory in ("lambda: None", "lambda: 1"):
        archive = tmp_path / f"made{len(found)}.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("mirembed_made.py", HOOK.format(factory=factory))
            file.writestr(
                "mirembed_made-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: mirembed-made\nVersion: 1"
            )
            file.writestr("mirembed_made-1.0.dist-info/entry_points.txt", "[mirembed]\nplugin = mirembed_made\n")
        found.append(code(archive))
    assert all(found)
    assert found[0] != found[1]


def test_a_factory_from_another_distribution_is_known_by_its_version(code, tmp_path):
    install(tmp_path, "mirembed-made", "from fractions import Fraction\n" + HOOK.format(factory="Fraction"))
    with_another = code(tmp_path)
    install(tmp_path / "own", "mirembed-made", "from fractions import Fraction\n" + HOOK.format(factory="lambda: None"))
    assert with_another != code(tmp_path / "own")
    own = tmp_path / "mirembed_made.py"
    assert with_another == files_digest([("mirembed_made.py", own)])


def test_source_that_cannot_be_read_is_an_error(code, tmp_path, monkeypatch):
    install(tmp_path, "mirembed-made", HOOK.format(factory="lambda: None"))

    def unreadable(files: object) -> str:
        raise PermissionError(13, "Permission denied", "x.py")

    monkeypatch.setattr("mirembed.registry.source.files_digest", unreadable)
    with pytest.raises(PluginError, match=r"mirembed-made.*x\.py"):
        code(tmp_path)


def test_listing_plugins_reads_no_source(monkeypatch, capsys):
    monkeypatch.setattr("mirembed.registry.plugins.source_digest", None)
    invoke("plugins", "--json")
    assert json.loads(capsys.readouterr().out)["plugins"]


def test_a_file_that_a_parameter_names_is_recorded_and_may_not_change(tmp_path):
    class Pretrained:
        def __init__(self, weights: Path):
            pass

    registry = Registry([Plugin("network", "pretrained", Pretrained, "", "mirembed-test", "1")])
    weights = tmp_path / "weights"

    def recorded(content: str) -> dict[str, object]:
        weights.write_text(content)
        return {"networks": {"x": registry.provenance("network", Spec("pretrained", {"weights": str(weights)}))}}

    before = recorded("1")
    registry.require_code(before, ("network",), "this training")
    after = recorded("2")
    assert [*made_with(before, after)] == ["networks.x.files.weights"]
    assert ask_the_same(before, after)
    with pytest.raises(PluginError, match="another file of the network mirembed-test/pretrained"):
        registry.require_code(before, ("network",), "this training")


def test_a_worker_that_finds_other_code_says_so(tmp_path, monkeypatch):
    install(tmp_path, "mirembed-differing", HOOK.format(factory="lambda: None"))
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry.discover()
    recorded = {"a": [registry.provenance("similarity", Spec("made"))]}
    registry.require_code(recorded, ["similarity"], "this training")
    recorded["a"][0]["code"] = "sha256:0"
    registry.require_code(recorded, ["learner"], "this training")
    with pytest.raises(PluginError, match=r"this training.* similarity mirembed-differing/made"):
        registry.require_code(recorded, ["similarity"], "this training")
    assert found_in(tmp_path)
