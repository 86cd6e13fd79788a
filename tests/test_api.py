"""The Python interface: the numbers of the commands, tables, errors, interruptions, progress."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_tones
from small_runs import write_run
from small_store import workers_run
from test_commands import run

import mirembed
from mirembed.api.progress import LineProgress, reporting
from mirembed.api.tables import rows_html
from mirembed.errors import EvaluationError, ModelError, SpecError, StoreError, UnknownNameError
from mirembed.progress import NO_PROGRESS, Silent
from mirembed.runs.folder import RunFolder
from mirembed.store.files import exclusive

pytestmark = pytest.mark.slow

NETWORK = "gru:hidden=4,units=3"
TINY = {"network": NETWORK, "epochs": 1, "engine": "torch", "jobs": 1, "progress": False}
FLAGS = ("--network", NETWORK, "--epochs", 1, "--engine", "torch", "--jobs", 1)


@pytest.fixture(scope="module", autouse=True)
def workers() -> Iterator[None]:
    with workers_run():
        yield


@pytest.fixture(scope="module")
def audio(tmp_path_factory) -> Path:
    return write_tones(tmp_path_factory.mktemp("audio"), n_tracks=4, seconds=1.0)


@pytest.fixture(scope="module")
def extraction(audio, tmp_path_factory) -> Any:
    store = tmp_path_factory.mktemp("api") / "store"
    return mirembed.extract("folder", audio=audio, store=store, jobs=1, progress=False)


@pytest.fixture(scope="module")
def store(extraction) -> mirembed.Store:
    return mirembed.Store(extraction.store)


@pytest.fixture(scope="module")
def model(store) -> Any:
    return mirembed.fit(store=store, similarity="rbf", **TINY)


@pytest.fixture(scope="module")
def evaluated(store) -> Any:
    return mirembed.evaluate(store=store, approach=["rbf-sl", "chance"], cv=3, **TINY)


def test_an_extraction_says_what_it_did_and_what_failed(extraction, audio, tmp_path):
    assert (extraction.dataset, extraction.summary.extracted, len(extraction.failures)) == ("folder", 12, 0)
    assert extraction.tracks["label"].to_pylist() == ["high"] * 4 + ["low"] * 4 + ["middle"] * 4
    folder = tmp_path / "music"
    shutil.copytree(audio / "low", folder / "low")
    (folder / "low" / "broken.wav").write_bytes(b"no audio")
    failed = mirembed.extract("folder", audio=folder, store=tmp_path / "store", jobs=1, progress=False)
    assert failed.failures["id"].to_pylist() == ["low/broken.wav"]


def test_fit_makes_the_model_of_the_command(store, model, audio):
    made = run("fit", "--store", store.path, "--similarity", "rbf", *FLAGS, "--name", "by-command", "--json").json
    same = mirembed.load(made["models"][0]["model"])
    assert same.provenance["digest"] == model.provenance["digest"]
    np.testing.assert_array_equal(store.embeddings("by-command").vectors, model.embeddings.vectors)

    predicted = model.predict(audio, top=2, jobs=1, progress=False)
    printed = run("predict", model.name, audio, "--store", store.path, "--top", 2, "--json").json
    assert predicted.to_pandas().to_dict("records") == printed["predictions"]
    embedded = model.embed(audio / "low" / "low-0.wav", jobs=1, progress=False)
    [vector] = (
        run("embed", model.name, audio / "low" / "low-0.wav", "--store", store.path, "--json")
        .json["embeddings"]
        .values()
    )
    assert np.asarray(embedded).tolist() == [vector]


def test_evaluate_has_the_numbers_of_the_command(store, evaluated):
    approaches = [word for name in ("rbf-sl", "chance") for word in ("--approach", name)]
    printed = run("evaluate", "--store", store.path, *approaches, *FLAGS, "--cv", 3, "--json").json
    by_command = mirembed.open_run(printed["run"])
    assert {by_command.name, evaluated.name} <= set(store.runs) and by_command.path != evaluated.path
    for name in ("scores", "fold_scores", "comparisons", "predictions", "folds", "curves", "embeddings"):
        assert getattr(by_command, name).equals(getattr(evaluated, name)), name
    means = {
        row["method"]: row["mean"]
        for row in evaluated.scores.to_pylist()
        if (row["metric"], row["column"]) == ("accuracy", None)
    }
    assert means == {name: one["accuracy"]["mean"] for name, one in printed["approaches"].items()}


def test_similar_finds_the_neighbors_of_the_command(store, model, audio):
    seed = audio / "low" / "low-0.wav"
    printed = run("similar", model.name, seed, "--store", store.path, "--top", 3, "--json").json["neighbors"]
    found = model.similar(seed, top=3, jobs=1, progress=False)
    assert found.table["track"].to_pylist() == [row["track"] for row in printed]
    assert found.table["similarity"].to_pylist() == [row["similarity"] for row in printed]
    assert found.similarity == "rbf"


def test_the_provenance_has_the_call(model, evaluated):
    assert model.provenance["command"].startswith("mirembed.fit(store=")
    assert f"network='{NETWORK}', similarity='rbf', epochs=1" in model.provenance["command"]
    assert "approach=['rbf-sl', 'chance']" in evaluated.manifest["command"]


def test_a_store_has_tracks_frames_and_embeddings(store, model):
    assert store.datasets == ["folder"]
    assert model.name in store.models
    assert store.tracks().column_names == ["id", "label", "group", "path", "recording", "listed"]
    frames = store.features()
    assert len(frames) == 12 and frames.values_per_frame == 40
    streamed = dict(frames.stream())
    assert list(streamed) == list(frames) == store.tracks()["id"].to_pylist()
    np.testing.assert_array_equal(streamed["low/low-1.wav"], frames["low/low-1.wav"])
    assert frames.table["n_frames"].to_pylist() == [len(one) for one in streamed.values()]
    embeddings = store.embeddings(model.name)
    assert embeddings.table["embedding"].to_pylist() == embeddings.vectors.tolist()
    assert set(embeddings.table["in_sample"].to_pylist()) == {True}


def test_targets_have_a_column_each_and_predictions_are_an_array(audio, tmp_path):
    table = audio / "targets.csv"
    rows = [
        f"{path.relative_to(audio)},{number},{number % 5}" for number, path in enumerate(sorted(audio.rglob("*.wav")))
    ]
    table.write_text("\n".join(["path,pitch,depth", *rows]))
    done = mirembed.extract(
        "folder:labels=targets.csv,target=pitch+depth", audio=audio, store=tmp_path, jobs=1, progress=False
    )
    assert done.tracks.column_names[1:3] == ["pitch", "depth"]
    predicted = mirembed.fit(store=tmp_path, **TINY).predict(audio / "low", jobs=1, progress=False)
    assert predicted.labels.shape == (4, 2) and predicted.probabilities is None
    assert predicted.table.column_names == ["path", "known", "pitch", "depth"]


def test_the_run_of_an_experiment_has_all_its_evaluations(store, evaluated):
    words = {"approach": "untrained", "train_size": [0.5, 1.0], "jobs": 1, "progress": False}
    both = mirembed.evaluate(config=evaluated, store=store, **words)
    assert both.scores.column_names[0] == "evaluation" and len(both.evaluations) == 2
    assert [len(one.predictions) for one in (both, *both.evaluations)] == [24, 12, 12]
    assert mirembed.open_run(both.path).methods == ["untrained"]
    assert {both.name, evaluated.name} <= set(store.runs)


def wrong(**words: Any) -> Callable[[Any], Any]:
    return lambda store: mirembed.evaluate(store=store, **words)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (wrong(epochs="5"), SpecError, "'5'"),
        (wrong(epochs=0), SpecError, "--epochs is 0"),
        (wrong(cv=2.5), SpecError, "2.5"),
        (wrong(jobs=0), SpecError, "--jobs is 0"),
        (wrong(cv=1), EvaluationError, "--cv"),
        (wrong(similarity="rbff"), UnknownNameError, "rbf"),
        (wrong(dataset=3), SpecError, "3"),
        (wrong(dataset="nothing"), StoreError, "nothing"),
        (wrong(progress="no"), SpecError, "'no'"),
        (wrong(config="nothing.toml"), SpecError, "nothing.toml"),
        (wrong(config="a.toml", preset="paper"), SpecError, "--preset"),
        (wrong(from_="folder-rbf-sl", epochs=3), SpecError, "--epochs"),
        (lambda store: mirembed.fit(store=store, similarity=["rbf", "cosine"]), SpecError, "cosine-sl"),
        (lambda store: mirembed.fit(store=store, approach="chance"), SpecError, "chance"),
        (lambda store: mirembed.fit(store=store, inner_cv=4), SpecError, "--inner-cv"),
        (lambda store: mirembed.fit(store=store, name=3), SpecError, "--name is 3"),
        (lambda store: mirembed.fit(store=store, seed=[1, 2]), SpecError, "--seed is"),
        (lambda store: mirembed.extract(store=store, limit=0), SpecError, "--limit is 0"),
        (lambda store: mirembed.extract(store=store, accept_failures="yes"), SpecError, "--accept-failures is"),
        (lambda store: mirembed.extract(store=store, max_failures="many"), SpecError, "many"),
        (lambda store: mirembed.extract(store=3), SpecError, "--store is 3"),
        (lambda store: mirembed.load("nothing", store=store), ModelError, "nothing"),
        (lambda store: mirembed.load(3, store=store), SpecError, "model is 3"),
        (lambda store: mirembed.open_run("nothing", store=store), StoreError, "nothing"),
        (lambda store: mirembed.Store("/nowhere"), StoreError, "/nowhere"),
        (lambda store: mirembed.Store(store).features(features="chroma"), StoreError, "chroma"),
    ],
)
def test_wrong_words_raise_what_the_commands_say(store, call, error, said):
    with pytest.raises(error, match=said):
        call(store)


def test_the_command_says_the_same_sentence(store):
    with pytest.raises(SpecError) as raised:
        mirembed.fit(store=store, inner_cv=4)
    assert str(raised.value) in run("fit", "--store", store.path, "--inner-cv", 4, code=1).err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"paths": []}, "paths is empty"),
        ({"paths": [3]}, "paths is 3"),
        ({"paths": "nothing.wav"}, "nothing.wav"),
        ({"paths": ".", "top": 0}, "--top is 0"),
        ({"paths": ".", "min_score": 2}, "--min-score"),
    ],
)
def test_wrong_words_to_predict_are_errors(model, words, said):
    with pytest.raises(mirembed.MirembedError, match=said):
        model.predict(**words, progress=False)


def test_a_seed_that_matches_several_tracks_is_an_error(model):
    with pytest.raises(mirembed.MirembedError, match="low/low-1"):
        model.similar("low", progress=False)


def test_a_model_of_another_version_is_refused_when_it_is_opened(model, tmp_path):
    shutil.copytree(model.path, tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 1}))
    with pytest.raises(ModelError, match="format 1"):
        mirembed.load(tmp_path / "model")


def test_a_run_that_is_still_going_is_refused(tmp_path):
    folder = write_run(tmp_path / "run", finished=None)
    with pytest.raises(EvaluationError, match="mirembed evaluate --cv 5"):
        mirembed.open_run(folder)
    with exclusive(folder, ""), pytest.raises(EvaluationError, match="running"):
        mirembed.open_run(folder)


class Interrupting(Silent):
    """Interrupts the first training of a call."""

    def update(self, completed: float, *, failed: int = 0, audio_seconds: float = 0.0) -> None:
        if completed:
            raise KeyboardInterrupt


def test_an_interrupted_call_goes_on(store):
    words = {**TINY, "store": store, "similarity": "cosine", "cv": 3}
    before = set(store.runs)
    with pytest.raises(KeyboardInterrupt):
        mirembed.evaluate(**{**words, "progress": Interrupting()})
    [begun] = set(store.runs) - before
    assert RunFolder(store.path / "runs" / begun).finished_parts()
    finished = mirembed.evaluate(**words)
    assert finished.name == begun
    assert len(finished.predictions) == 12


def test_pruning_many_tracks_needs_yes(audio, tmp_path):
    folder = tmp_path / "music"
    shutil.copytree(audio, folder)
    words = {"dataset": "folder", "audio": folder, "store": tmp_path / "store", "jobs": 1, "progress": False}
    mirembed.extract(**words)
    shutil.rmtree(folder / "low")
    with pytest.raises(mirembed.MirembedError, match="remove 4 of the 12"):
        mirembed.extract(**words, prune=True)
    assert mirembed.extract(**words, prune=True, yes=True).summary.pruned == 4


def test_a_result_shows_itself_in_a_notebook(extraction, store, model, evaluated, audio):
    predicted = model.predict(audio / "low", jobs=1, progress=False)
    for one in (extraction, store, model, evaluated, predicted, model.embeddings, store.features()):
        assert "<table>" in one._repr_html_()
        assert repr(one)
    assert evaluated.best in evaluated._repr_html_().replace("&#x27;", "'")
    assert "&lt;b&gt;" in rows_html(["label"], [["<b>"]])


def test_functions_are_not_hidden_by_the_packages_of_their_names():
    import mirembed.evaluate.plan
    import mirembed.extract.update
    import mirembed.fit.job

    assert all(callable(one) for one in (mirembed.evaluate, mirembed.extract, mirembed.fit))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_progress_ends_as_a_line_and_notes_stay(kind):
    stream = kind()
    with LineProgress(stream) as progress:
        progress.start("training", 2)
        progress.update(1)
        progress.note("a note")
        progress.update(2)
        progress.start("nothing to do", 0)
    shown = [line.rsplit("\r", 1)[-1] for line in stream.getvalue().rstrip().split("\n")]
    assert "a note" in shown
    assert any(line.startswith("training") for line in shown)
    assert "nothing to do" not in stream.getvalue()


def test_progress_is_silent_on_request_and_says_what_an_interruption_keeps(capsys):
    with reporting(False) as progress:
        assert progress is NO_PROGRESS
    with pytest.raises(KeyboardInterrupt), reporting(True, "all is kept"):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "all is kept\n"
