"""Small stores of synthetic spectrograms: no audio is decoded, and a class is learned in a few epochs."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mirembed import Classification, Regression, Tags, Target, Task, workers
from mirembed.config import Settings
from mirembed.evaluate.experiment import evaluate as run_evaluation
from mirembed.evaluate.plan import plan_run
from mirembed.extract import file_features
from mirembed.features import FeaturesInfo, resolve_features
from mirembed.fit.job import Job
from mirembed.fit.resolve import describe_plugins
from mirembed.hookspecs import Split
from mirembed.progress import NO_PROGRESS, Progress, Silent
from mirembed.registry import Registry
from mirembed.runs.folder import RunFolder
from mirembed.runs.scores import Scores
from mirembed.specs import Spec
from mirembed.store import DatasetInfo, RecordingRow, Store, StoredTrack, tracks
from mirembed.store.tracks import Tracks
from mirembed.workers import executor

CLASSES = Classification(("high", "low", "middle"))
TAGS = Tags(("high", "low", "middle"))
TARGETS = Regression((Target("height", -100.0, 300.0), Target("depth")))
BANDS = 40
LOGMEL = resolve_features(Registry.discover(), "logmel")


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
    *,
    dataset: str = "folder",
    features: FeaturesInfo = LOGMEL,
) -> Store:
    """Write a dataset into a store, as if its tracks ``000``, ``001``, ... had been extracted.

    ``features`` has one part, to which the frames ``[n_frames, values]`` of the tracks belong; further features of the
    same recordings may be added with `write_frames`.
    """
    store = Store(root)
    store.create()
    stored = store.dataset(Spec(dataset))
    [part] = features.parts
    info = DatasetInfo(
        spec=dataset,
        plugin={"name": dataset},
        task=task,
        audio="audio",
        n_listed=len(labels),
        n_absent=0,
        features={part.spec: store.features(part).name},
    )
    recordings = [recording_of(one) for one in frames]
    stored.write_info(info)
    stored.write_tracks(
        [
            StoredTrack(
                id=f"{number:03d}",
                recording=recordings[number],
                label=label,
                group=None if groups is None else groups[number],
                path=f"/audio/{number:03d}.wav",
                file_size=1,
                file_mtime_ns=1,
            )
            for number, label in enumerate(labels)
        ],
        info,
    )
    write_frames(store, features, dict(zip(recordings, frames, strict=True)))
    return store


def give_files(store: Store, folder: Path) -> None:
    """Make an empty file for every track of the only dataset, as commands that recommend tracks want to see."""
    dataset = store.find(None)
    folder.mkdir()
    info = replace(dataset.info(), audio=str(folder))
    tracks = [replace(track, path=str(folder / f"{track.id}.wav")) for track in dataset.tracks()]
    for track in tracks:
        Path(track.path).touch()
    dataset.write_info(info)
    dataset.write_tracks(tracks, info)


def recording_of(frames: np.ndarray) -> str:
    """Return the recording that is said to have these frames."""
    return hashlib.sha256(frames.tobytes()).hexdigest()[:32]


def write_frames(store: Store, features: FeaturesInfo, frames: Mapping[str, np.ndarray]) -> None:
    """Add a shard: the frames of recordings, by features of one part."""
    [part] = features.parts
    shards = store.features(part)
    shards.create(part)
    rows = [
        RecordingRow(
            recording=recording,
            audio_hash=f"audio {recording}",
            duration=len(values) * (part.hop or 1.0),
            rate=22_050,
            backend="essentia",
            file_size=1,
            frames=values,
        )
        for recording, values in frames.items()
    ]
    shards.append(rows, part)


def open_tracks(store: Store, progress: Progress = NO_PROGRESS, features: Sequence[FeaturesInfo] = (LOGMEL,)) -> Tracks:
    """Open the only dataset of a store."""
    return tracks.open_tracks(store, store.find(None), features, progress)


def class_frames(labels: Sequence[str], n_frames: int = 120) -> list[np.ndarray]:
    """Return spectrograms of different lengths, with the peak in different bands for each class."""
    peaks = {"low": 0.1, "middle": 0.5, "high": 0.9}
    return [noise_with_peak(peaks[label], n_frames + 7 * i, seed=i) for i, label in enumerate(labels)]


def write_classes(root: Path, n_tracks: int = 18, groups: Sequence[str | None] | None = None) -> Store:
    """Write a store of tracks of three classes, taking turns."""
    labels = [CLASSES.classes[number % 3] for number in range(n_tracks)]
    return write_store(root, CLASSES, labels, class_frames(labels), groups)


def write_tags(root: Path, n_tracks: int = 24, groups: Sequence[str | None] | None = None) -> Store:
    """Write a store of tracks that have each subset of three tags in turn, with a peak for each tag."""
    labels = [frozenset(tag for bit, tag in enumerate(TAGS.classes) if number >> bit & 1) for number in range(n_tracks)]
    frames = []
    for number, tags in enumerate(labels):
        peaks = [noise_with_peak({"low": 0.1, "middle": 0.5, "high": 0.9}[tag], 120, seed=number) for tag in tags]
        quiet = np.random.default_rng(number).normal(-60, 3, (120, BANDS)).astype(np.float32)
        frames.append(np.max([quiet, *peaks], axis=0))
    return write_store(root, TAGS, labels, frames, groups)


def write_targets(root: Path, n_tracks: int = 24) -> Store:
    """Write a store of tracks whose ``height`` can be heard, and whose ``depth`` is noise around 5."""
    rng = np.random.default_rng(0)
    peaks = rng.uniform(0, 1, n_tracks)
    frames = [noise_with_peak(peak, 120, seed=i) for i, peak in enumerate(peaks)]
    labels = [(400 * float(peak) - 100, float(rng.normal(5, 2))) for peak in peaks]
    return write_store(root, TARGETS, labels, frames)


def experiment(*approaches: str, **settings: Any) -> Settings:
    """Return the settings of a short experiment, with no score before the last epoch; default ``rbf-sl``.

    The network is ``mlp``, which is quick, unless it is given or ``numba`` has to compute it.
    """
    short = {"epochs": 5, "checkpoint_every": 0, "device": "cpu", "engine": "torch"}
    if isinstance(settings.get("learner"), str):
        settings["learner"] = (settings["learner"],)
    described = Settings(approach=approaches, **{**short, **settings})
    is_free = "network" not in settings and described.engine != "numba"
    if is_free and any(approach.takes_network for approach in described.used_approaches):
        return replace(described, network=("mlp",))
    return described


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
        provenance={
            "settings": {"engine": described.engine},
            "learner": {"name": "svm", "distribution": "mirembed", "version": "1.0"},
        },
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
        for module in (executor, file_features):
            patch.setattr(module, "forkserver", lambda load: contextlib.nullcontext())
        patch.setattr(executor, "prepare_trainings", contextlib.nullcontext)
        yield
