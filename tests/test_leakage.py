"""Test tracks never reach the models of their fold: replacing their audio and labels changes no number of a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE, tone, write_tones
from small_store import (
    CLASSES,
    class_frames,
    job,
    noise_with_peak,
    open_tracks,
    write_classes,
    write_store,
    write_targets,
)

from mirembed.fit.job import Fitted, fit_models
from mirembed.models.model import Model
from mirembed.registry import Registry
from mirembed.store.files import read_table
from mirembed.store.tracks import Tracks

pytestmark = pytest.mark.slow

Numbers = dict[str, bytes]


@pytest.fixture(scope="module")
def tracks(tmp_path_factory) -> Tracks:
    """Eighteen tracks of three classes."""
    return open_tracks(write_classes(tmp_path_factory.mktemp("classes")))


@pytest.fixture(scope="module")
def target_tracks(tmp_path_factory) -> Tracks:
    """Twenty-four tracks with two targets, the second of undeclared range."""
    return open_tracks(write_targets(tmp_path_factory.mktemp("targets")))


def fit_fold(tracks: Tracks, test: int, *approaches: str, normalize: str = "training") -> Fitted:
    """Fit the models of a fold in whose test part the track ``test`` stands alone."""
    rows = np.delete(np.arange(len(tracks.ids)), test)
    return fit_models(job(tracks, *approaches, rows=rows, normalize=normalize, excerpt=20), Registry.discover())


def numbers(model: Model) -> Numbers:
    """Return every number of a model: weights, normalization, output layer, scale of the targets, learner.

    The learner's file is not compared: skops writes the time and addresses in memory into it.
    """
    arrays = dict(model.network.arrays)
    arrays |= {"mean": model.normalization.mean, "std": model.normalization.std}
    if model.head is not None:
        arrays |= {"head.weight": model.head.weight, "head.bias": model.head.bias}
    if model.scale is not None:
        arrays |= {"low": model.scale.low, "high": model.scale.high}
    if model.estimator is not None:
        for number, machine in enumerate(getattr(model.estimator, "estimators_", [model.estimator])):
            fitted = {name: value for name, value in vars(machine).items() if isinstance(value, np.ndarray)}
            assert {"support_vectors_", "dual_coef_"} <= fitted.keys()
            arrays |= {f"svm {number} {name}": value for name, value in fitted.items()}
    return {name: array.tobytes() for name, array in arrays.items()}


@pytest.mark.parametrize("approaches", [["rbf-sl"], ["nn", "fl"]], ids=["similarity", "baselines"])
def test_audio_and_label_of_a_test_track_reach_no_model_of_its_fold(tracks, tmp_path, approaches):
    labels, frames = list(tracks.labels), class_frames(tracks.labels)
    labels[4] = "middle" if labels[4] != "middle" else "low"
    frames[4] = noise_with_peak(0.3, 77, seed=99) + 40
    replaced = open_tracks(write_store(tmp_path, CLASSES, labels, frames))

    before, after = fit_fold(tracks, 4, *approaches), fit_fold(replaced, 4, *approaches)
    assert before.losses == after.losses
    for name, model in before.models.items():
        assert numbers(model) == numbers(after.models[name])
    # Where the track trains, the replacement is seen: so a leak would be.
    before, after = fit_fold(tracks, 5, *approaches), fit_fold(replaced, 5, *approaches)
    for name, model in before.models.items():
        assert numbers(model)["mean"] != numbers(after.models[name])["mean"]
        for array in model.network.arrays:
            assert numbers(model)[array] != numbers(after.models[name])[array]


def test_the_targets_of_a_test_track_do_not_stretch_the_scale_of_its_fold(target_tracks):
    labels = target_tracks.labels.copy()
    labels[3, 1] = 1e6
    replaced = replace(target_tracks, labels=labels)
    before, after = (fit_fold(t, 3).models["rbf-sl"] for t in (target_tracks, replaced))
    assert numbers(before) == numbers(after)
    assert fit_fold(replaced, 4).models["rbf-sl"].scale.high[1] == 1e6


def test_dataset_normalization_lets_the_test_tracks_audio_in_and_is_not_the_default(tracks):
    frames = tracks.frames["logmel"].open().astype(np.float64)
    training = np.delete(frames, range(tracks.frames["logmel"].starts[4], tracks.frames["logmel"].starts[5]), axis=0)
    ours, papers = fit_fold(tracks, 4), fit_fold(tracks, 4, normalize="dataset")
    for fitted, expected in [(ours, training), (papers, frames)]:
        normalization = fitted.models["rbf-sl"].normalization
        np.testing.assert_allclose(normalization.mean, expected.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(normalization.std, expected.std(axis=0), rtol=1e-6)
    assert ours.losses != papers.losses


def test_the_command_keeps_a_replaced_test_track_out_of_its_folds_models(mirembed, tmp_path):
    tones = write_tones(tmp_path / "tones", n_tracks=4, seconds=1.0)
    files = sorted(path.relative_to(tones).as_posix() for path in tones.rglob("*.wav"))
    labels = {file: file.split("/")[0] for file in files}
    track = "low/low-1.wav"

    def fold_models() -> tuple[Path, Path]:
        """Return the model in whose test part the track stands, and the one that it trained."""
        rows = "".join(f"{file},{label}\n" for file, label in labels.items())
        (tones / "labels.csv").write_text("path,label\n" + rows)
        mirembed("extract", "--dataset", "folder:labels=labels.csv", "--audio", tones)
        options = ["--folds", "random", "--cv", 2, "--network", "mlp", "--epochs", 2, "--keep-models"]
        run = mirembed.folder / json.loads(mirembed("evaluate", *options, "--json").stdout)["run"]
        folds = {row["id"]: row["fold"] for row in read_table(run / "folds.parquet").to_pylist()}
        models = [run / "models" / f"rbf-sl-seed0-fold{fold}" for fold in (0, 1)]
        return models[folds[track]], models[1 - folds[track]]

    before = fold_models()
    soundfile.write(tones / track, tone(1500.0, 2.0, seed=5), RATE)
    labels[track] = "high"
    after = fold_models()

    networks = [(model / "network.safetensors").read_bytes() for model in (*before, *after)]
    assert networks[0] == networks[2]
    assert networks[1] != networks[3]
    tested, trained, tested_after, trained_after = (
        numbers(Model.load(model, Registry.discover())) for model in (*before, *after)
    )
    assert tested == tested_after
    assert trained != trained_after
