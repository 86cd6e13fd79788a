"""Small stores of synthetic spectrograms: no audio is decoded, and a class is learned in a few epochs."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mirembed import Classification, Regression, Target, Task, workers
from mirembed.config import Settings
from mirembed.evaluate import evaluate as run_evaluation
from mirembed.evaluate import plan_run
from mirembed.features.info import FeaturesInfo, FeaturesPart
from mirembed.fit.job import Job
from mirembed.fit.resolve import describe_plugins
from mirembed.hookspecs import Split
from mirembed.progress import Silent
from mirembed.registry import Registry
from mirembed.runs import RunFolder, Scores
from mirembed.specs import Spec
from mirembed.spectrogram import SpectrogramParameters
from mirembed.store import DatasetInfo, FeatureStore, SpectrogramRow, Store
from mirembed.store.tracks import Tracks
from mirembed.workers import trainings

CLASSES = Classification(("high", "low", "middle"))
TARGETS = Regression((Target("height", -100.0, 300.0), Target("depth")))
PARAMETERS = SpectrogramParameters().to_json()
BANDS = SpectrogramParameters().bands
FEATURES = FeaturesInfo(
    "logmel", (FeaturesPart("logmel", {"name": "logmel", "parameters": PARAMETERS}, BANDS, 0.025, "0" * 32),)
)


def noise_with_peak(peak: float, n_frames: int, seed: int) -> np.ndarray:
    """Return noise around -60 dB with a moving peak 30 dB above it: float32 [n_frames, BANDS].

    ``peak`` is the position of the peak, from 0 in the lowest to 1 in the highest band.
    """
    rng = np.random.default_rng(seed)
    band = peak * (BANDS - 1) + rng.normal(0, 1, (n_frames, 1))
    bump = 30 * np.exp(-(((np.arange(BANDS) - band) / 3) ** 2))
    return (rng.normal(-60, 3, (n_frames, BANDS)) + bump).astype(np.float32)


def write_store(
    root: Path,
    task: Task,
    labels: Sequence[Any],
    frames: Sequence[np.ndarray],
    groups: Sequence[str | None] | None = None,
) -> FeatureStore:
    """Write the dataset ``folder`` of a new store, as if its tracks ``000``, ``001``, ... had been extracted."""
    store = Store(root)
    store.create()
    features = store.dataset(Spec("folder"))
    info = DatasetInfo("folder", {"name": "folder"}, task, PARAMETERS, "audio", len(labels), 0)
    rows = [
        SpectrogramRow(
            id=f"{number:03d}",
            label=label,
            group=None if groups is None else groups[number],
            path=f"audio/{number:03d}.wav",
            duration=len(frames[number]) * 0.025,
            file_hash=f"{number}",
            audio_hash=hashlib.sha256(frames[number].tobytes()).hexdigest(),
            backend="essentia",
            file_size=1,
            file_mtime_ns=1,
            frames=frames[number],
        )
        for number, label in enumerate(labels)
    ]
    features.write_info(info)
    features.append(rows, info)
    return features


def class_frames(labels: Sequence[str], n_frames: int = 120) -> list[np.ndarray]:
    """Return spectrograms of different lengths, with the peak in different bands for each class."""
    peaks = {"low": 0.1, "middle": 0.5, "high": 0.9}
    return [noise_with_peak(peaks[label], n_frames + 7 * i, seed=i) for i, label in enumerate(labels)]


def write_classes(root: Path, n_tracks: int = 18, groups: Sequence[str | None] | None = None) -> FeatureStore:
    """Write a store of tracks of three classes, taking turns."""
    labels = [CLASSES.classes[number % 3] for number in range(n_tracks)]
    return write_store(root, CLASSES, labels, class_frames(labels), groups)


def write_targets(root: Path, n_tracks: int = 24) -> FeatureStore:
    """Write a store of tracks whose ``height`` can be heard, and whose ``depth`` is noise around 5."""
    rng = np.random.default_rng(0)
    peaks = rng.uniform(0, 1, n_tracks)
    frames = [noise_with_peak(peak, 120, seed=i) for i, peak in enumerate(peaks)]
    labels = [(400 * float(peak) - 100, float(rng.normal(5, 2))) for peak in peaks]
    return write_store(root, TARGETS, labels, frames)


def experiment(*approaches: str, **settings: Any) -> Settings:
    """Return the settings of a short experiment, with no score before the last epoch; default ``rbf-sl``."""
    short = {"epochs": 5, "checkpoint_every": 0, "device": "cpu", "engine": "torch"}
    if isinstance(settings.get("learner"), str):
        settings["learner"] = (settings["learner"],)
    return Settings(approach=approaches, **{**short, **settings})


def evaluate(
    tracks: Tracks,
    settings: Settings,
    registry: Registry,
    runs: Path,
    *,
    official: Mapping[str, Sequence[Split]] | None = None,
    jobs: int = 1,
    **options: Any,
) -> tuple[RunFolder, list[Scores]]:
    """Evaluate on tracks, as the command does on a dataset."""
    planned = plan_run(settings, tracks, registry, describe_plugins(settings, registry), official)
    return run_evaluation(planned, runs, jobs=jobs, **options)


def job(tracks: Tracks, *approaches: str, rows: np.ndarray | None = None, **settings: Any) -> Job:
    """Return a short training of approaches that share a network, on all tracks or on ``rows``."""
    described = experiment(*approaches, **{"epochs": 2, **settings})
    return Job.of(
        tracks,
        rows=np.arange(len(tracks.ids)) if rows is None else rows,
        methods=described.methods,
        settings=described,
        seed=0,
        fold=0,
        provenance={"settings": {}, "learner": {"name": "svm", "distribution": "mirembed", "version": "1.0"}},
        checkpoint=None,
    )


class Notes(Silent):
    """Collects the notes of a progress."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def run_here(
    function: Callable[[Any], Any],
    arguments: Sequence[Any],
    jobs: int,
    tick: Callable[[], None] = lambda: None,
    **options: object,
) -> Iterator[workers.Done[Any]]:
    """Replace `mirembed.workers.run`, because starting a process takes longer than a small training."""
    for index, argument in enumerate(arguments):
        yield workers.Done(index, function(argument))
        tick()


@contextlib.contextmanager
def workers_run(run: Callable[..., Any] = run_here) -> Iterator[None]:
    """Let ``run`` do the work of worker processes inside the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "run", run)
        patch.setattr(trainings, "forkserver", lambda load: contextlib.nullcontext())
        patch.setattr(trainings, "prepare_trainings", contextlib.nullcontext)
        yield
