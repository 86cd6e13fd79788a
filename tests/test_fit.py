"""Interrupted, repeated and concurrent fits; names of models; learners that cannot be saved."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sklearn.base import BaseEstimator
from small_store import (
    Notes,
    evaluate,
    experiment,
    give_files,
    open_tracks,
    run_here,
    workers_run,
    write_classes,
    write_targets,
)
from third_party import install

from mirembed.errors import ModelError, SpecError, StoreBusyError
from mirembed.fit import FittedModel, dataset, fit, transfer
from mirembed.library.neighbors import neighbors
from mirembed.models.estimators import check_storable
from mirembed.models.model import Model
from mirembed.progress import Silent
from mirembed.registry import Plugin, Registry
from mirembed.specs import Spec
from mirembed.store import Store, StoredEmbeddings
from mirembed.store.files import locked, read_json, read_table, write_json

pytestmark = pytest.mark.slow

REGISTRY = Registry.discover()
APPROACHES = ("rbf-sl", "nn", "fl")


@pytest.fixture
def store(tmp_path) -> Store:
    return write_classes(tmp_path / "store")


def fit_here(
    store: Store, models: Path, *approaches: str, run: Callable[..., Any] = run_here, **settings: Any
) -> list[FittedModel]:
    """Fit for two epochs, in this process."""
    with workers_run(run):
        described = experiment(*approaches or APPROACHES, epochs=2)
        return fit(open_tracks(store), store, described, REGISTRY, models, seed=0, jobs=1, **settings)


def transfer_here(store: Store, network: Path, models: Path, **settings: Any) -> FittedModel:
    return transfer(open_tracks(store), store, network, Spec("svm"), REGISTRY, models, **settings)


def interrupt_after_one(
    function: Callable[[Any], Any], arguments: Sequence[Any], *rest: Any, **options: Any
) -> Iterator[Any]:
    """Press ctrl-C when the first training has ended."""
    yield next(run_here(function, arguments, 1))
    raise KeyboardInterrupt


def interrupt_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    """Press ctrl-C when a function of the fit is called for the ``call``-th time."""
    calls = []
    original = getattr(dataset, name)

    def interrupted(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(dataset, name, interrupted)


def content(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def is_whole(entry: FittedModel) -> bool:
    """Whether a model's embeddings are there and its own."""
    digest = Model.load(entry.folder, REGISTRY).provenance["digest"]
    return len(StoredEmbeddings(entry.embeddings.parent).read(digest)) == 18


@pytest.mark.parametrize("name", [None, "mine"])
def test_a_resumed_fit_keeps_the_finished_models_and_makes_the_others(store, tmp_path, name):
    models = tmp_path / "models"
    with pytest.raises(KeyboardInterrupt):
        fit_here(store, models, run=interrupt_after_one, name=name)
    [done] = models.glob("*rbf-sl*")
    before = content(done)
    notes = Notes()
    fitted = fit_here(store, models, name=name, progress=notes)
    [note] = notes.notes
    assert "interrupted fit" in note
    assert [entry.folder.name for entry in fitted] == [f"{name or 'folder'}-{approach}" for approach in APPROACHES]
    assert content(done) == before
    assert all(map(is_whole, fitted))
    assert [entry.loss for entry in fitted] == [entry.loss for entry in fit_here(store, tmp_path / "at a stroke")]


def test_all_tracks_are_embedded_once_for_all_models_of_a_network(store, tmp_path, monkeypatch):
    calls = []
    original = Model.embed

    def counting(model: Model, *arguments: Any) -> Any:
        calls.append(model)
        return original(model, *arguments)

    monkeypatch.setattr(Model, "embed", counting)
    with workers_run():
        settings = experiment("nn", "fl", epochs=2, learner=("svm", "svm:C=10"))
        fitted = fit(open_tracks(store), store, settings, REGISTRY, tmp_path / "all", seed=0, jobs=1)
    assert len(calls) == 1
    assert len(fitted) == 3
    vectors = [read_table(entry.embeddings)["vector"].to_pylist() for entry in fitted]
    assert vectors[0] == vectors[1] == vectors[2]
    fit_here(store, tmp_path / "nn", "nn")
    assert len(calls) == 2
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(patch, "_save_embeddings", 1)
        fit_here(store, tmp_path / "resumed", "nn", "fl")
    del calls[:]
    fit_here(store, tmp_path / "resumed", "nn", "fl")
    assert len(calls) == 1


@pytest.mark.parametrize(("function", "call"), [("_save_model", 2), ("_save_embeddings", 1), ("_save_embeddings", 2)])
def test_a_fit_interrupted_between_a_model_and_its_embeddings_is_completed(
    store, tmp_path, monkeypatch, function, call
):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(patch, function, call)
        fit_here(store, tmp_path, "nn", "fl")
    fitted = fit_here(store, tmp_path, "nn", "fl")
    assert [entry.folder.name for entry in fitted] == ["folder-nn", "folder-fl"]
    assert all(map(is_whole, fitted))


def test_an_interrupted_transfer_is_completed(store, tmp_path, monkeypatch):
    [network] = fit_here(store, tmp_path, "fl")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(patch, "_save_embeddings", 1)
        transfer_here(store, network.folder, tmp_path, name="mine")
    assert is_whole(transfer_here(store, network.folder, tmp_path, name="mine"))


def test_repeating_a_finished_fit_makes_new_models(store, tmp_path):
    notes = Notes()
    for names in (["folder-nn", "folder-fl"], ["folder-nn-2", "folder-fl-2"]):
        assert [entry.folder.name for entry in fit_here(store, tmp_path, "nn", "fl", progress=notes)] == names
    assert len(notes.notes) == 2
    for note, name in zip(notes.notes, ["folder-nn", "folder-fl"], strict=True):
        assert f"{name} " in note
        assert note.endswith(f"{name}-2")
    assert {path.name for path in (tmp_path / ".checkpoints").iterdir()} == {".lock"}


def test_another_fit_does_not_resume_an_interrupted_one(store, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit_here(store, tmp_path, run=interrupt_after_one)
    assert [entry.folder.name for entry in fit_here(store, tmp_path, "rbf-sl", "nn")] == [
        "folder-rbf-sl-2",
        "folder-nn",
    ]


def test_names_reserved_by_a_fit_in_another_process_are_taken(store, tmp_path):
    checkpoints = tmp_path / ".checkpoints"
    names = {"fl": "folder-fl", "nn": "mine"}
    write_json(checkpoints / "0123456789ab.json", {"names": names, "configuration": {}})
    with locked(checkpoints / "0123456789ab.lock"):
        assert fit_here(store, tmp_path, "fl")[0].folder.name == "folder-fl-2"
        with pytest.raises(StoreBusyError, match=r"another process .*mine.*--name"):
            fit_here(store, tmp_path, "fl", name="mine")
    assert fit_here(store, tmp_path, "fl", name="mine")[0].folder.name == "mine"  # that process was killed


def test_the_same_fit_twice_at_once_is_refused_and_harmless(store, tmp_path):
    def begin_again(
        function: Callable[[Any], Any], arguments: Sequence[Any], *rest: Any, **options: Any
    ) -> Iterator[Any]:
        with pytest.raises(StoreBusyError, match="another process"):
            fit_here(store, tmp_path, "fl")
        yield from run_here(function, arguments, 1)

    [entry] = fit_here(store, tmp_path, "fl", run=begin_again)
    assert is_whole(entry)


def test_a_name_that_cannot_name_a_folder_is_an_error(store, tmp_path):
    names = ["x/b", "../../evil", "..", ".hidden", "", "a b", "-x", "x" * 61, "a\n"]
    for name in names:
        with pytest.raises(SpecError, match=f"--name {re.escape(name)}: "):
            fit_here(store, tmp_path / "models", "nn", name=name)
    assert not (tmp_path / "models").exists()
    [network] = fit_here(store, tmp_path / "models", "nn", name="a.b_c-1")
    for name in names:
        with pytest.raises(SpecError, match=f"--name {re.escape(name)}: "):
            transfer_here(store, network.folder, tmp_path / "models", name=name)
    assert {path.name for path in tmp_path.iterdir()} == {"store", "models"}


@pytest.fixture
def fold_model(store, tmp_path) -> Path:
    """The model of a fold, as ``evaluate --keep-models`` keeps it."""
    with workers_run():
        settings = experiment(epochs=2, cv=2, keep_models=True)
        run, _ = evaluate(open_tracks(store), settings, REGISTRY, tmp_path / "runs", command="typed")
    return run.folder / "models" / "rbf-sl-seed0-fold0"


def test_the_model_of_a_fold_has_the_provenance_of_any_other_model(store, tmp_path, fold_model):
    [whole] = fit_here(store, tmp_path, "rbf-sl")
    of_fold, of_all = (read_json(folder / "model.json")["provenance"] for folder in (fold_model, whole.folder))
    assert of_fold.keys() - {"fold"} == of_all.keys() - {"fit"}
    assert of_fold["dataset"] == of_all["dataset"]
    assert (of_fold["command"], of_fold["fold"]) == ("typed", 0)


def test_the_network_of_a_fold_can_be_transferred(store, tmp_path, fold_model):
    """Its embeddings say which recordings it was trained on, after a further transfer too."""
    trained_on = set(Model.load(fold_model, REGISTRY).recordings)
    taken = transfer_here(store, fold_model, tmp_path)
    again = transfer_here(store, taken.folder, tmp_path, name="again")
    for entry in (taken, again):
        rows = read_table(entry.embeddings).select(["recording", "in_sample"]).to_pylist()
        assert 0 < len(trained_on) < len(rows)
        assert {row["recording"] for row in rows if row["in_sample"]} == trained_on
    give_files(Store(tmp_path / "store"), tmp_path / "audio")
    found = neighbors(
        Store(tmp_path / "store"),
        REGISTRY,
        str(taken.folder),
        ["000"],
        top=3,
        choose=lambda text, tracks: None,
        progress=Silent(),
    )
    assert (found.similarity, len(found.tracks)) == ("rbf", 3)


def test_embeddings_are_in_sample_where_the_network_was_trained_on_the_recording(store, tmp_path):
    [network] = fit_here(store, tmp_path, "fl")
    same = transfer_here(store, network.folder, tmp_path)
    other = transfer_here(write_targets(tmp_path / "targets"), network.folder, tmp_path)
    assert set(read_table(same.embeddings)["in_sample"].to_pylist()) == {True}
    assert set(read_table(other.embeddings)["in_sample"].to_pylist()) == {False}


WRAPPER = """
    from mirembed import hookimpl
    from sklearn.base import BaseEstimator
    from wrapped_library import Booster

    class Wrapper(BaseEstimator):
        def __init__(self):
            {init}

        def fit(self, X, y):
            self.booster_ = Booster()
            return self

        def predict(self, X):
            return [0] * len(X)

    class Learner:
        def estimator(self, task):
            return Wrapper()

    @hookimpl
    def mirembed_register_learners(register):
        register("boosted", Learner)
"""


@pytest.mark.parametrize("init", ["self.booster_ = Booster()", "pass"], ids=["unfitted", "fitted"])
def test_a_learner_that_could_not_be_loaded_again_is_refused_before_any_training(store, tmp_path, monkeypatch, init):
    install(tmp_path / "site", f"mirembed-boosted-{'late' if init == 'pass' else 'soon'}", WRAPPER.format(init=init))
    (tmp_path / "site" / "wrapped_library.py").write_text("class Booster:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    trainings = []

    def counting(function: Callable[[Any], Any], arguments: Sequence[Any], *_: Any, **options: Any) -> Iterator[Any]:
        trainings.extend(arguments)
        yield from run_here(function, arguments, 1)

    with workers_run(counting), pytest.raises(ModelError) as error:
        described = experiment("fl", epochs=1, learner="boosted")
        fit(open_tracks(store), store, described, Registry.discover(), tmp_path / "models", seed=0, jobs=1)
    assert all(fact in str(error.value) for fact in ("learner boosted", "Wrapper", "wrapped_library.Booster"))
    assert trainings == []
    assert list((tmp_path / "models").glob("*/model.json")) == []


class Stubborn(BaseEstimator):
    """Can be saved, but not built again."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise ImportError("no module named booster")


def test_a_learner_that_cannot_be_rebuilt_is_an_error_of_the_model(store, tmp_path):
    [entry] = fit_here(store, tmp_path, "fl")
    model = Model.load(entry.folder, REGISTRY)
    model.estimator = Stubborn()
    model.provenance = {**model.provenance, "learner": {"name": "odd", "distribution": "mirembed-odd", "version": "1"}}
    registry = Registry([Plugin("learner", "odd", Stubborn, "", "mirembed-odd", "1")])
    check_storable(model.estimator, Spec("odd"), registry)
    model.save(tmp_path / "stubborn")
    with pytest.raises(ModelError, match="no module named booster"):
        Model.load(tmp_path / "stubborn", registry)
