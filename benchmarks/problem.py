"""The input of both programs: tracks of a store, folds, and settings."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mirembed import Classification, Task, workers
from mirembed.config import defaults
from mirembed.datasets.splits import Fold, default_scheme, make_folds
from mirembed.errors import MirembedError
from mirembed.features import resolve_features
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import DatasetInfo, RecordingRow, Store, StoredTrack
from mirembed.store.frame_file import FrameFile, each_run
from mirembed.store.tracks import Tracks, open_tracks
from mirembed.training.labels import label_vectors, scale_for

N_CLASSES = 10
N_BANDS = 40
SHARD_TRACKS = 200

TRAINING_FLOP = 411_000
"""Floating-point operations per frame, forward and backward.

A multiply-add counts as 2. The matrices of a layer with n units and i inputs have 3 n (i + n) weights: 300 * 180 and
150 * 150, together 76 500. Forward: 153 kFLOP. Backward: as much for the gradient of the weights, and as much for that
of inputs and states, except the first layer's inputs (300 * 80 weights), which need none: 258 kFLOP.
"""
EMBEDDING_FLOP = 153_000
"""Floating-point operations per frame, forward only."""


@dataclass(frozen=True)
class Problem:
    """One experiment. It is small, because it is sent to worker processes; the frames stay in their file.

    Attributes
    ----------
    frames : FrameFile
    label_vectors : ndarray [n_tracks, n_classes, n_tags or n_targets], float32
        One-hot, 0 or 1 for each tag, or targets scaled to [0, 1].
    task : Classification, Tags or Regression
    folds : list of Fold
    approach : {"rbf-sl", "fl"}
    epochs, batch, seed : int
    """

    frames: FrameFile
    label_vectors: NDArray[np.float32]
    task: Task
    folds: list[Fold]
    approach: str
    epochs: int
    batch: int
    seed: int

    @property
    def labels(self) -> NDArray[Any]:
        """The labels that the SVMs learn: classes ``[n_tracks]``, or scaled targets ``[n_tracks, n_targets]``."""
        return self.label_vectors.argmax(axis=1) if isinstance(self.task, Classification) else self.label_vectors

    def tracks(self) -> list[NDArray[np.float32]]:
        """Return the frames of every track in memory."""
        frames = self.frames
        return [np.array(track) for track in each_run(frames.open(), frames.starts, frames.lengths)]

    def training_flop(self) -> float:
        """Return the floating-point operations of all trainings."""
        used = np.minimum(self.frames.lengths, defaults.EXCERPT)
        return float(TRAINING_FLOP * self.epochs * sum(int(used[fold.train].sum()) for fold in self.folds))

    def embedding_flop(self) -> float:
        """Return the floating-point operations of embedding every track once."""
        return float(EMBEDDING_FLOP * self.frames.lengths.sum())


def positive(text: str) -> int:
    """Parse a number that is at least 1."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def add_arguments(parser: ArgumentParser) -> None:
    """Add the flags that choose the data."""
    numbers: Any = {"type": positive, "metavar": "N"}
    parser.add_argument("--store", type=Path, metavar="DIR", help="use this store instead of synthetic tracks")
    parser.add_argument("--dataset", metavar="NAME", help="dataset in that store; default: the only one")
    parser.add_argument("--tracks", **numbers, default=400, help="number of synthetic tracks; default: %(default)s")
    parser.add_argument("--frames", **numbers, default=1200, help="frames of a synthetic track; default: %(default)s")
    parser.add_argument("--folds", **numbers, default=10, help="default: %(default)s")
    parser.add_argument("--batch", **numbers, default=32, help="default: %(default)s")
    parser.add_argument("--approach", choices=["rbf-sl", "fl"], default="rbf-sl", help="default: %(default)s")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="default: %(default)s")
    parser.add_argument(
        "--jobs", **numbers, default=workers.available_jobs(), help="mirembed's workers; default: one per core"
    )


def make_problem(tracks: Tracks, arguments: Namespace, epochs: int) -> Problem:
    """Draw the folds that ``mirembed evaluate`` draws."""
    task = tracks.task
    labels = tracks.label_array
    folds, _ = make_folds(
        task,
        labels,
        scheme=default_scheme(task),
        n_folds=arguments.folds,
        seed=arguments.seed,
        groups=tracks.groups,
    )
    return Problem(
        frames=next(iter(tracks.frames.values())),
        task=task,
        label_vectors=label_vectors(task, labels, scale_for(task, labels)),
        folds=folds,
        approach=arguments.approach,
        epochs=epochs,
        batch=arguments.batch,
        seed=arguments.seed,
    )


def run(main: Callable[[], None]) -> None:
    """Run a command; print an expected error as one line without a traceback."""
    try:
        main()
    except MirembedError as error:
        raise SystemExit(f"error: {error}") from None


@contextlib.contextmanager
def opened_store(arguments: Namespace, features: str = defaults.FEATURES) -> Iterator[tuple[Store, Tracks]]:
    """Open the store of the command line, or write a synthetic one. Runs in it are deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="mirembed-benchmark-") as folder:
        store = Store(Path(folder) / "store")
        dataset = None if arguments.dataset is None else Spec.parse(arguments.dataset)
        if arguments.store is None:
            write_store(store, arguments.tracks, arguments.frames, features)
        else:
            Store(arguments.store).find(dataset)
            # The benchmark must not add its runs to the user's store.
            store.root.mkdir()
            shutil.copy(arguments.store / "store.json", store.root)
            for name in ("features", "datasets"):
                (store.root / name).symlink_to((arguments.store / name).resolve())
        yield store, open_tracks(store, store.find(dataset), [resolve_features(Registry.discover(), features)])


def write_store(store: Store, n_tracks: int, n_frames: int, spec: str = defaults.FEATURES) -> None:
    """Write tracks of ten classes in turn: noise with a peak in a band that depends on the class."""
    classes = tuple(f"class-{number}" for number in range(N_CLASSES))
    store.create()
    dataset = store.dataset(Spec("folder"))
    info = DatasetInfo("folder", {"name": "folder"}, Classification(classes), "audio", n_tracks, 0)
    dataset.write_info(info)
    dataset.write_tracks([_track(number, classes) for number in range(n_tracks)], info)
    [part] = resolve_features(Registry.discover(), spec).parts
    features = store.features(part)
    features.create(part)
    for first in range(0, n_tracks, SHARD_TRACKS):
        numbers = range(first, min(first + SHARD_TRACKS, n_tracks))
        features.append([_row(number, synthetic_frames(number, n_frames, part.values)) for number in numbers], part)


def synthetic_frames(number: int, n_frames: int, n_bands: int) -> NDArray[np.float32]:
    """Return the frames of one track, dB: ndarray ``[n_frames, n_bands]``."""
    rng = np.random.default_rng(number)
    peak = (number % N_CLASSES + rng.normal(0, 0.7)) / N_CLASSES * n_bands
    bump = 6 * np.exp(-(((np.arange(n_bands, dtype=np.float32) - np.float32(peak)) / 2) ** 2))
    noise = rng.standard_normal((n_frames, n_bands), dtype=np.float32)
    return cast(NDArray[np.float32], noise * np.float32(8) + (bump - np.float32(50)))


def _track(number: int, classes: tuple[str, ...]) -> StoredTrack:
    return StoredTrack(
        id=f"{number:06d}",
        recording=f"{number}",
        label=classes[number % N_CLASSES],
        group=None,
        path=f"/audio/{number:06d}.wav",
        file_size=1,
        file_mtime_ns=1,
    )


def _row(number: int, frames: NDArray[np.float32]) -> RecordingRow:
    return RecordingRow(
        recording=f"{number}",
        audio_hash=f"{number}",
        duration=len(frames) * 0.025,
        rate=22_050,
        backend="scipy",
        file_size=1,
        frames=frames,
    )
