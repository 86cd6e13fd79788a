"""Embedding audio files with a model: in order, in bounded memory, and without decoding what a store knows."""

from __future__ import annotations

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import spectrogram
from conftest import RATE, tone, write_tones
from small_networks import REGISTRY, network, seeded
from small_store import BANDS, CLASSES, LOGMEL, TARGETS, Notes, workers_run
from test_extraction import WIDE, run

from mirembed import Task, workers
from mirembed.errors import MismatchError
from mirembed.extract import ExtractedFile, extract_files
from mirembed.features import FeaturesInfo
from mirembed.hookspecs import Classification, Estimator
from mirembed.interruption import STARTS_OVER, InterruptHandler
from mirembed.models import inference
from mirembed.models.inference import EmbeddedFiles, embed_files
from mirembed.models.kept import KeptEmbeddings
from mirembed.models.model import Model
from mirembed.progress import Silent
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.embeddings import EmbeddingRows
from mirembed.training.excerpts import InputForm, Normalization
from mirembed.training.labels import TargetScale
from mirembed.training.network import seeded_head
from mirembed.training.weights import NetworkWeights, OutputLayer

NOWHERE = Store(Path("no such folder"))


def untrained(task: Task = CLASSES, estimator: Estimator | None = None) -> Model:
    """Return a model with initial weights, which predicts by its head if no estimator is given."""
    module = seeded("gru", 2 * BANDS, [0])
    n_outputs = len(task.classes if isinstance(task, Classification) else task.targets)
    return Model(
        task=task,
        network=NetworkWeights.of(module, network("gru").choice, 2 * BANDS, REGISTRY),
        normalization=Normalization(np.full(BANDS, -60, np.float32), np.full(BANDS, 20, np.float32)),
        form=InputForm(),
        head=OutputLayer.of(seeded_head(module.units, n_outputs, [0])) if estimator is None else None,
        estimator=estimator,
        scale=None if isinstance(task, Classification) else TargetScale(np.zeros(n_outputs), np.ones(n_outputs)),
        features=LOGMEL,
    )


def embed_here(model: Model, paths: list[Path], store: Store = NOWHERE) -> EmbeddedFiles:
    with workers_run():
        return embed_files(model, paths, REGISTRY, store, 1, Silent())


@pytest.fixture(scope="module")
def tones(tmp_path_factory) -> list[Path]:
    """Nine tones of 11 frames."""
    return sorted(write_tones(tmp_path_factory.mktemp("tones"), n_tracks=3, seconds=0.3).rglob("*.wav"))


def test_the_embedding_of_a_file_is_that_of_its_spectrogram(tones):
    model = untrained()
    embedded = embed_here(model, tones)
    assert (embedded.paths, embedded.failures) == (tones, [])
    for path, embedding in zip(tones, embedded.embeddings, strict=True):
        frames = spectrogram(path)
        (expected,) = model.embed(frames, np.array([0]), np.array([len(frames)]))
        np.testing.assert_array_equal(embedding, expected)


def test_only_so_many_spectrograms_are_held_at_once(tones, monkeypatch):
    model = untrained()
    expected = embed_here(model, tones).embeddings
    held = []
    embed = model.embed

    def spy(frames, starts, lengths):
        held.append(len(frames))
        return embed(frames, starts, lengths)

    monkeypatch.setattr(model, "embed", spy)
    monkeypatch.setattr(inference, "HELD_BYTES", 40 * BANDS * 4)
    np.testing.assert_array_equal(embed_here(model, tones).embeddings, expected)
    assert held == [44, 44, 11]


def test_failed_files_are_reported_and_the_others_keep_their_order(tones, tmp_path):
    bad, empty = tmp_path / "bad.wav", tmp_path / "empty.wav"
    bad.write_text("no audio")
    empty.touch()
    embedded = embed_here(untrained(), [bad, tones[5], empty, tones[0]])
    assert embedded.paths == [tones[5], tones[0]]
    assert [path for path, _ in embedded.failures] == [bad, empty]


@pytest.mark.parametrize("learner", [None, "svm"])
@pytest.mark.parametrize(("task", "shape"), [(CLASSES, (0,)), (TARGETS, (0, 2))])
def test_no_files_give_no_embeddings_and_no_predictions(learner, task, shape):
    estimator = learner and Registry.discover().create("learner", Spec(learner)).estimator(task)
    model = untrained(task, estimator)
    embedded = embed_here(model, [])
    assert embedded.embeddings.shape == (0, model.network.units)
    predicted = model.predict(embedded.embeddings)
    assert predicted.shape == shape
    assert predicted.dtype == (np.int64 if task == CLASSES else np.float64)


# Files that a store knows


@pytest.fixture(scope="module")
def extracted(tones, tmp_path_factory) -> Store:
    """A store with the frames of the tones."""
    store = Store(tmp_path_factory.mktemp("extracted") / "store")
    with workers_run():
        run(store, tones[0].parent.parent)
    return store


def decoding_nothing(model: Model, paths: list[Path], store: Store) -> EmbeddedFiles:
    """Embed files in a place where no file can be decoded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "extract_files", lambda files, *_: pytest.fail(f"{files} are decoded"))
        return embed_here(model, paths, store)


def test_files_that_a_store_has_frames_of_are_not_decoded(tones, extracted, tmp_path):
    model = untrained()
    copies = [tmp_path / f"{number}.wav" for number in range(len(tones))]
    for path, copy in zip(tones, copies, strict=True):
        shutil.copyfile(path, copy)
    expected = embed_here(model, tones).embeddings
    for paths in (tones, copies):
        embedded = decoding_nothing(model, paths, extracted)
        assert (embedded.paths, embedded.failures) == (paths, [])
        np.testing.assert_array_equal(embedded.embeddings, expected)


def test_stored_embeddings_of_the_model_are_taken_as_they_are(tones, extracted):
    model = untrained()
    recordings = [track.recording for track in extracted.find(None).tracks()]
    vectors = np.random.default_rng(0).random((len(recordings), model.network.units), np.float32)
    extracted.embeddings("mine").write("digest", EmbeddingRows(recordings, vectors))
    for digest, taken in (("digest", True), ("another", False)):
        model.provenance = {"name": "mine", "digest": digest}
        embedded = decoding_nothing(model, tones, extracted)
        by_id = sorted(str(path) for path in tones)
        assert [str(path) for path in embedded.paths] == by_id
        assert np.array_equal(embedded.embeddings, vectors) == taken


def test_only_files_that_the_store_does_not_know_are_decoded(tones, extracted, tmp_path, monkeypatch):
    model = untrained()
    new = tmp_path / "new.wav"
    soundfile.write(new, tone(300, 0.3, seed=50), RATE)
    decoded = []
    extract_files = inference.extract_files

    def spy(files, *options):
        decoded.extend(file.path for file in files)
        return extract_files(files, *options)

    monkeypatch.setattr(inference, "extract_files", spy)
    embedded = embed_here(model, [tones[3], new, tones[1]], extracted)
    assert (embedded.paths, decoded) == ([tones[3], new, tones[1]], [new])
    expected = embed_here(model, [tones[3], new, tones[1]])
    np.testing.assert_array_equal(embedded.embeddings, expected.embeddings)


def test_frames_of_other_features_are_not_taken(tones, extracted):
    model = untrained()
    model.features = WIDE
    found = inference.embed_recordings(model, extracted, ["any"], Silent())
    assert found == {}


def test_a_model_of_features_that_are_computed_differently_here_decodes_nothing(tones):
    [part] = LOGMEL.parts
    model = untrained()
    model.features = replace(LOGMEL, parts=(replace(part, digest="7" * 32),))
    with pytest.raises(MismatchError, match="features logmel"):
        embed_here(model, tones)


def test_a_file_whose_frames_cannot_be_stacked_is_a_failure_and_the_others_are_embedded(tones, monkeypatch):
    parts = (LOGMEL.parts[0], replace(LOGMEL.parts[0], spec="other", digest="5" * 32))
    both = FeaturesInfo("logmel+other", parts)

    def extracted(files, jobs, options, folder):
        for index in range(len(files)):
            lengths = (11, 11) if index else (11, 99)
            frames = {part.digest: np.zeros((n, BANDS), np.float32) for part, n in zip(parts, lengths, strict=True)}
            yield workers.Done(
                index,
                ExtractedFile(
                    recording=str(index), file_size=1, file_mtime_ns=1, frames=frames, failures={}, backends={}
                ),
            )

    monkeypatch.setattr(inference, "extract_files", extracted)
    monkeypatch.setattr(inference, "resolve_features", lambda registry, spec: both)
    model = replace(
        untrained(),
        network=NetworkWeights.of(seeded("gru", 4 * BANDS, [0]), network("gru").choice, 4 * BANDS, REGISTRY),
        normalization=Normalization(np.zeros(2 * BANDS, np.float32), np.ones(2 * BANDS, np.float32)),
        features=both,
    )
    found = embed_here(model, tones[:3])
    assert found.paths == tones[1:3]
    [(path, reason)] = found.failures
    assert path == tones[0]
    assert "11 of logmel, 99 of other" in reason


# What an interrupted command keeps


class InterruptedAfter(Silent):
    """Progress during which ctrl-C is pressed once so many files are done."""

    def __init__(self, n_files: int) -> None:
        self.n_files = n_files

    def update(self, completed: float, *, failed: int = 0, audio_seconds: float = 0.0) -> None:
        if completed >= self.n_files:
            raise KeyboardInterrupt


@pytest.fixture
def saved() -> Model:
    model = untrained()
    model.provenance = {"name": "mine", "digest": "sha256:0123456789abcdef0123"}
    return model


def interrupted(model: Model, paths: list[Path], store: Store, n_files: int) -> None:
    with workers_run(), pytest.raises(KeyboardInterrupt):
        embed_files(model, paths, REGISTRY, store, 1, InterruptedAfter(n_files))


def test_files_that_were_embedded_before_ctrl_c_are_not_decoded_again(saved, tones, tmp_path, monkeypatch):
    store = Store(tmp_path / "store")
    monkeypatch.setattr(inference, "HELD_BYTES", 1)  # each file is embedded by itself
    expected = embed_here(saved, tones).embeddings
    interrupted(saved, tones, store, n_files=4)
    [shard] = store.cache.iterdir()
    assert "0123456789abcdef" in shard.name

    decoded = []

    def spy(files, *rest):
        decoded.extend(file.path for file in files)
        return extract_files(files, *rest)

    monkeypatch.setattr(inference, "extract_files", spy)
    again = embed_here(saved, tones, store)
    np.testing.assert_array_equal(again.embeddings, expected)
    assert len(decoded) == len(tones) - 4
    assert not store.root.exists()  # it was made for what was kept


def test_a_changed_file_and_another_network_do_not_get_embeddings_that_were_kept(saved, tones, tmp_path, monkeypatch):
    store = Store(tmp_path / "store")
    store.create()
    monkeypatch.setattr(inference, "HELD_BYTES", 1)
    paths = [Path(shutil.copy(path, tmp_path)) for path in tones[:3]]
    interrupted(saved, paths, store, n_files=3)
    other = replace(saved, provenance={"name": "mine", "digest": "sha256:another"})
    kept, others = (KeptEmbeddings(store, one.provenance["digest"]) for one in (saved, other))
    assert (kept.of(paths[0]) is None, others.of(paths[0]) is None) == (False, True)
    embed_here(saved, paths[:1], store)
    assert KeptEmbeddings(store, saved.provenance["digest"]).of(paths[1]) is not None
    shutil.copyfile(tones[5], paths[0])
    embedded = embed_here(saved, paths, store)
    np.testing.assert_array_equal(embedded.embeddings[0], embed_here(saved, [tones[5]]).embeddings[0])
    assert [path.name for path in store.root.iterdir()] == ["store.json"]


def test_nothing_is_kept_and_said_to_be_kept_where_nothing_can_be_written(saved, tones, tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "HELD_BYTES", 1)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "cache").touch()  # no folder can be made there, whoever runs this
    signal.signal(signal.SIGINT, handler := InterruptHandler())
    interrupted(saved, tones[:2], Store(tmp_path / "store"), n_files=1)
    assert handler.take_message() == STARTS_OVER


def test_what_is_said_after_ctrl_c_is_what_was_said_before_once_nothing_is_kept(saved, tones, tmp_path):
    signal.signal(signal.SIGINT, handler := InterruptHandler())
    embed_here(saved, tones[:1], Store(tmp_path / "store"))
    assert handler.take_message() == "interrupted"
    assert not (tmp_path / "store").exists()


def test_what_is_odd_about_a_file_is_said(tmp_path):
    left = tone(440, 0.5, seed=0)
    soundfile.write(tmp_path / "odd.wav", np.stack([left, -left], axis=1), RATE)
    progress = Notes()
    with workers_run():
        embed_files(untrained(), [tmp_path / "odd.wav"], REGISTRY, NOWHERE, 1, progress)
    assert ["odd.wav" in note and "cancel" in note for note in progress.notes].count(True) == 1
