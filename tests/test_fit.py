"""Fits that are interrupted, repeated, or going on side by side; the names of models; learners that cannot be kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from sklearn.base import BaseEstimator
from small_store import experiment, run_here, workers_run, write_classes, write_targets
from third_party import install

from mirembed.errors import ModelError, SpecError, StoreBusyError
from mirembed.evaluate import Evaluation, evaluate
from mirembed.fit import FittedModel, dataset, fit, transfer
from mirembed.models.embeddings import ModelKey, read_embeddings
from mirembed.models.estimators import check_storable
from mirembed.models.model import Model
from mirembed.models.neighbors import neighbors
from mirembed.progress import Silent
from mirembed.registry import Plugin, Registry
from mirembed.specs import Spec
from mirembed.store import FeatureStore, Store
from mirembed.store.files import read_json, read_table, write_json
from mirembed.store.frames import open_tracks

REGISTRY = Registry.discover()
APPROACHES = ("rbf-sl", "nn", "fl")


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    return write_classes(tmp_path / "store")


class Notes(Silent):
    """What a fit says."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, message: str) -> None:
        self.told.append(message)


def fit_here(
    store: FeatureStore, models: Path, *approaches: str, run: Callable[..., Any] = run_here, **settings: Any
) -> list[FittedModel]:
    """Fit for two epochs, in this process."""
    with workers_run(run):
        described = experiment(*approaches or APPROACHES, epochs=2)
        return fit(open_tracks(store), store, described, REGISTRY, models, seed=0, jobs=1, **settings)


def transfer_here(store: FeatureStore, network: Path, models: Path, **settings: Any) -> FittedModel:
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
    ids, embeddings = read_embeddings(entry.embeddings, ModelKey.of(Model.load(entry.folder, REGISTRY)))
    return len(ids) == len(embeddings) == 18


@pytest.mark.parametrize("name", [None, "mine"])
def test_an_interrupted_fit_keeps_the_models_that_are_done_and_makes_the_others(store, tmp_path, name):
    models = tmp_path / "models"
    with pytest.raises(KeyboardInterrupt):
        fit_here(store, models, run=interrupt_after_one, name=name)
    [done] = models.glob("*rbf-sl*")
    before = content(done)
    notes = Notes()
    fitted = fit_here(store, models, name=name, progress=notes)
    assert notes.told == ["going on where the same fit was interrupted"]
    assert [entry.folder.name for entry in fitted] == [f"{name or 'folder'}-{approach}" for approach in APPROACHES]
    assert content(done) == before
    assert all(map(is_whole, fitted))
    assert [entry.loss for entry in fitted] == [entry.loss for entry in fit_here(store, tmp_path / "at a stroke")]


@pytest.mark.parametrize(("function", "call"), [("_keep", 2), ("_save_embeddings", 1), ("_save_embeddings", 2)])
def test_an_interruption_between_a_model_and_its_embeddings_is_made_good(store, tmp_path, monkeypatch, function, call):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(patch, function, call)
        fit_here(store, tmp_path, "nn", "fl")
    fitted = fit_here(store, tmp_path, "nn", "fl")
    assert [entry.folder.name for entry in fitted] == ["folder-nn", "folder-fl"]
    assert all(map(is_whole, fitted))


def test_an_interrupted_transfer_is_made_good_too(store, tmp_path, monkeypatch):
    [network] = fit_here(store, tmp_path, "fl")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(patch, "_save_embeddings", 1)
        transfer_here(store, network.folder, tmp_path, name="mine")
    assert is_whole(transfer_here(store, network.folder, tmp_path, name="mine"))


def test_a_fit_that_was_finished_makes_new_models_when_it_is_repeated(store, tmp_path):
    notes = Notes()
    for names in (["folder-nn", "folder-fl"], ["folder-nn-2", "folder-fl-2"]):
        assert [entry.folder.name for entry in fit_here(store, tmp_path, "nn", "fl", progress=notes)] == names
    assert notes.told == [
        "there is a model folder-nn already, which is kept; this one is folder-nn-2",
        "there is a model folder-fl already, which is kept; this one is folder-fl-2",
    ]
    assert {path.name for path in (tmp_path / ".checkpoints").iterdir()} == {".lock"}


def test_another_fit_does_not_go_on_with_the_models_of_an_interrupted_one(store, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit_here(store, tmp_path, run=interrupt_after_one)
    assert [entry.folder.name for entry in fit_here(store, tmp_path, "rbf-sl", "nn")] == [
        "folder-rbf-sl-2",
        "folder-nn",
    ]


def test_names_that_a_fit_in_another_process_is_going_to_use_are_taken(store, tmp_path):
    checkpoints = tmp_path / ".checkpoints"
    write_json(checkpoints / "0123456789ab.json", {"fl": "folder-fl", "nn": "mine"})
    with FileLock(checkpoints / "0123456789ab.lock"):
        assert fit_here(store, tmp_path, "fl")[0].folder.name == "folder-fl-2"
        with pytest.raises(ModelError, match=r"there is a model .*mine already"):
            fit_here(store, tmp_path, "fl", name="mine")
    assert fit_here(store, tmp_path, "fl", name="mine")[0].folder.name == "mine"  # that process was killed


def test_the_same_fit_twice_at_once_is_refused_and_harms_nothing(store, tmp_path):
    def begin_again(
        function: Callable[[Any], Any], arguments: Sequence[Any], *rest: Any, **options: Any
    ) -> Iterator[Any]:
        with pytest.raises(StoreBusyError, match="the same fit is going on in another process"):
            fit_here(store, tmp_path, "fl")
        yield from run_here(function, arguments, 1)

    [entry] = fit_here(store, tmp_path, "fl", run=begin_again)
    assert is_whole(entry)


@pytest.mark.parametrize("name", ["x/b", "../../evil", "..", ".hidden", "", "a b", "-x", "x" * 61, "a\n"])
def test_a_name_that_is_no_name_of_a_folder_is_refused(store, tmp_path, name):
    with pytest.raises(SpecError, match="expected a letter or digit"):
        fit_here(store, tmp_path / "models", "nn", name=name)
    assert not (tmp_path / "models").exists()
    [network] = fit_here(store, tmp_path / "models", "nn", name="a.b_c-1")
    with pytest.raises(SpecError, match="expected a letter or digit"):
        transfer_here(store, network.folder, tmp_path / "models", name=name)
    assert {path.name for path in tmp_path.iterdir()} == {"store", "models"}


@pytest.fixture
def fold_model(store, tmp_path) -> Path:
    """The model of a fold, as ``evaluate --keep-models`` keeps it."""
    with workers_run():
        evaluation = Evaluation("stratified", 2, keep_models=True)
        run, _ = evaluate(
            open_tracks(store), experiment(epochs=2), evaluation, REGISTRY, tmp_path / "runs", jobs=1, command="typed"
        )
    return run.folder / "models" / "rbf-sl-seed0-fold0"


def test_a_model_of_a_fold_tells_how_it_was_made_as_any_other_does(store, tmp_path, fold_model):
    [whole] = fit_here(store, tmp_path, "rbf-sl")
    of_fold, of_all = (read_json(folder / "model.json")["provenance"] for folder in (fold_model, whole.folder))
    assert of_fold.keys() - {"fold"} == of_all.keys() - {"fit"}
    assert of_fold["dataset"] == of_all["dataset"]
    assert (of_fold["command"], of_fold["fold"]) == ("typed", 0)


def test_the_network_of_a_fold_can_be_taken_over(store, tmp_path, fold_model):
    """Which of the tracks it was trained on is not known then, nor after a further transfer."""
    taken = transfer_here(store, fold_model, tmp_path)
    again = transfer_here(store, taken.folder, tmp_path, name="again")
    for entry in (taken, again):
        assert set(read_table(entry.embeddings)["in_sample"].to_pylist()) == {None}
    found = neighbors(
        Store(tmp_path / "store"),
        REGISTRY,
        str(taken.folder),
        "000",
        top=3,
        inside=None,
        dataset=None,
        jobs=1,
        progress=Silent(),
    )
    assert (found.similarity, len(found.tracks)) == ("rbf", 3)


def test_only_a_network_of_the_very_same_tracks_is_known_to_be_trained_on_them(store, tmp_path):
    [network] = fit_here(store, tmp_path, "fl")
    same = transfer_here(store, network.folder, tmp_path)
    other = transfer_here(write_targets(tmp_path / "targets"), network.folder, tmp_path)
    assert set(read_table(same.embeddings)["in_sample"].to_pylist()) == {True}
    assert set(read_table(other.embeddings)["in_sample"].to_pylist()) == {None}


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


@pytest.mark.parametrize(
    ("init", "trained"), [("self.booster_ = Booster()", False), ("pass", True)], ids=["unfitted", "fitted"]
)
def test_a_learner_that_could_not_be_loaded_is_refused_before_a_model_is_saved(
    store, tmp_path, monkeypatch, init, trained
):
    install(tmp_path / "site", f"mirembed-boosted-{'late' if trained else 'soon'}", WRAPPER.format(init=init))
    (tmp_path / "site" / "wrapped_library.py").write_text("class Booster:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    trainings = []

    def counting(function: Callable[[Any], Any], arguments: Sequence[Any], *_: Any, **options: Any) -> Iterator[Any]:
        trainings.extend(arguments)
        yield from run_here(function, arguments, 1)

    with workers_run(counting), pytest.raises(ModelError) as error:
        described = experiment("fl", epochs=1, learner="boosted")
        fit(open_tracks(store), store, described, Registry.discover(), tmp_path / "models", seed=0, jobs=1)
    assert "the Wrapper of the learner boosted" in str(error.value)
    assert "wrapped_library.Booster" in str(error.value)
    assert bool(trainings) == trained
    assert list((tmp_path / "models").glob("*/model.json")) == []


class Stubborn(BaseEstimator):
    """Stored without complaint, and impossible to build again."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise ImportError("no module named booster")


def test_a_learner_that_cannot_be_built_again_is_an_error_of_the_model(store, tmp_path):
    [entry] = fit_here(store, tmp_path, "fl")
    model = Model.load(entry.folder, REGISTRY)
    model.estimator = Stubborn()
    model.provenance = {**model.provenance, "learner": {"name": "odd", "distribution": "mirembed-odd", "version": "1"}}
    registry = Registry([Plugin("learner", "odd", Stubborn, "", "mirembed-odd", "1")])
    check_storable(model.estimator, Spec("odd"), registry)
    model.save(tmp_path / "stubborn")
    with pytest.raises(ModelError, match=r"was not loaded: .*no module named booster"):
        Model.load(tmp_path / "stubborn", registry)
