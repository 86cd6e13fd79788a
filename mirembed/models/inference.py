"""Audio files to embeddings with a fitted model, and tables of the results for other programs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.files import printable
from mirembed.errors import MismatchError
from mirembed.extract import ExtractedFile, ExtractOptions, FileToExtract, extract_files
from mirembed.extract.summary import file_lines
from mirembed.features import FeaturesInfo, resolve_features
from mirembed.features.info import common_length
from mirembed.interruption import raise_if_interrupted
from mirembed.models.base import AnyModel, TrackFrames
from mirembed.models.kept import KeptEmbedding, KeptEmbeddings, keeping_embeddings
from mirembed.progress import Progress
from mirembed.registry import Registry
from mirembed.store import Store
from mirembed.store.embeddings import vector_column
from mirembed.store.exports import write_csv
from mirembed.store.files import write_table
from mirembed.store.recordings import KnownRecordings, facts_of_frames
from mirembed.training.engine import prepare_engine

HELD_BYTES = 64 * 2**20
HELD_SECONDS = 5.0
"""Frames of several files are held to be embedded together, until they take this much memory or are this old."""


@dataclass(frozen=True)
class EmbeddedFiles:
    """Embeddings of files, in the order in which the files were given.

    Attributes
    ----------
    paths : list of pathlib.Path
        Files that could be read.
    recordings : list of str
        Of these files.
    embeddings : ndarray [n_files, units], float32
    failures : list of (pathlib.Path, str)
        The other files, with the reason.
    audio_hashes : list of str or None
        Digests of the decoded samples of the files that could be read; None if unknown.
    """

    paths: list[Path]
    recordings: list[str]
    embeddings: NDArray[np.float32]
    failures: list[tuple[Path, str]]
    audio_hashes: list[str | None]

    def among(self, digests: Collection[str]) -> list[bool]:
        """Return which files have their recording, or the digest of their decoded samples, among ``digests``."""
        pairs = zip(self.recordings, self.audio_hashes, strict=True)
        return [recording in digests or audio_hash in digests for recording, audio_hash in pairs]

    def without(self, digests: Collection[str]) -> EmbeddedFiles:
        """Return the files that are not `among` these."""
        rows = [row for row, is_among in enumerate(self.among(digests)) if not is_among]
        return EmbeddedFiles(
            [self.paths[row] for row in rows],
            [self.recordings[row] for row in rows],
            self.embeddings[rows],
            self.failures,
            [self.audio_hashes[row] for row in rows],
        )


def embed_files(
    model: AnyModel, paths: Sequence[Path], registry: Registry, store: Store, jobs: int, progress: Progress
) -> EmbeddedFiles:
    """Embed audio files, see `embedding_files`, for something that takes no time."""
    with embedding_files(model, paths, registry, store, jobs, progress) as embedded:
        return embedded


@contextlib.contextmanager
def embedding_files(
    model: AnyModel, paths: Sequence[Path], registry: Registry, store: Store, jobs: int, progress: Progress
) -> Iterator[EmbeddedFiles]:
    """Embed audio files, without decoding those that the store knows.

    Their embeddings are taken from the store where this model has made them, or are computed from stored frames. The
    other files are decoded in worker processes. If this or the ``with`` block is interrupted, their embeddings are kept
    for the next call; see `mirembed.models.kept`. Otherwise nothing is written to the store.

    Raises
    ------
    MismatchError
        If the model was trained on features that the installed plugins compute differently.
    """
    with keeping_embeddings(store, model.provenance.get("digest")) as kept:
        yield _embedded_files(model, paths, registry, store, jobs, progress, kept)


def _embedded_files(
    model: AnyModel,
    paths: Sequence[Path],
    registry: Registry,
    store: Store,
    jobs: int,
    progress: Progress,
    kept: KeptEmbeddings,
) -> EmbeddedFiles:
    known = KnownRecordings(store)
    resumed: dict[int, KeptEmbedding] = {}
    recordings: dict[int, str] = {}
    for index, path in enumerate(paths):
        raise_if_interrupted()
        if (before := kept.of(path)) is not None:
            resumed[index] = before
        elif (name := known.of(path)) is not None:
            recordings[index] = name
    progress.start("embedding", len(paths))
    progress.update(len(resumed))
    vectors = embed_recordings(model, store, set(recordings.values()), progress, n_done=len(resumed))
    rows = {index: vectors[name] for index, name in recordings.items() if name in vectors}
    rows |= {index: one.vector for index, one in resumed.items()}
    recordings |= {index: one.recording for index, one in resumed.items()}
    missing = [index for index in range(len(paths)) if index not in rows]
    failures: dict[int, str] = {}
    audio_hashes = _audio_hashes(model, store, {recordings[index] for index in rows} - model.trained_on)
    audio_hashes |= {one.recording: one.audio_hash for one in resumed.values()}
    notes = {printable(paths[index]): one.notes for index, one in resumed.items() if one.notes}
    if missing:
        files = [FileToExtract(paths[index], (), model.parts) for index in missing]
        with contextlib.closing(embed_decoded(model, registry, files, jobs, progress, n_done=len(rows))) as decoded:
            for number, found in decoded:
                index = missing[number]
                if isinstance(found, str):
                    failures[index] = found
                else:
                    recordings[index], rows[index] = found.file.recording, found.vector
                    audio_hashes[found.file.recording] = found.file.audio_hash
                    kept.add(paths[index], found.file, found.vector)
                    if found.file.notes:
                        notes[printable(paths[index])] = "; ".join(found.file.notes)
    for line in file_lines(notes, (), ()):
        progress.note(line)
    raise_if_interrupted()
    done = sorted(rows)
    return EmbeddedFiles(
        paths=[paths[index] for index in done],
        recordings=[recordings[index] for index in done],
        embeddings=np.array([rows[index] for index in done], np.float32).reshape(-1, model.units),
        failures=[(paths[index], failures[index]) for index in sorted(failures)],
        audio_hashes=[audio_hashes.get(recordings[index]) for index in done],
    )


def _audio_hashes(model: AnyModel, store: Store, recordings: Collection[str]) -> dict[str, str | None]:
    """Return the digests of the decoded samples of recordings that the store has embeddings or frames of."""
    if not recordings:
        return {}
    facts = facts_of_frames(store, model.parts)
    found = {name: facts[name].audio_hash for name in recordings if name in facts}
    if "digest" in model.provenance:
        table = store.embeddings(model.provenance["name"]).table(model.provenance["digest"], ["audio_hash"])
        pairs = zip(table["recording"].to_pylist(), table["audio_hash"].to_pylist(), strict=True)
        found |= {name: audio_hash for name, audio_hash in pairs if name in recordings and audio_hash is not None}
    return found


def embed_recordings(
    model: AnyModel, store: Store, recordings: Collection[str], progress: Progress, *, n_done: int = 0
) -> dict[str, NDArray[np.float32]]:
    """Return the embeddings ``[units]`` of recordings that the store has embeddings or frames of; no file is read.

    Recordings whose frames cannot be stacked are left out. ``n_done`` further files count as done in the progress.
    """
    found = {}
    if "digest" in model.provenance:  # it is saved
        stored = store.embeddings(model.provenance["name"]).read(model.provenance["digest"])
        found = {name: stored[name] for name in recordings if name in stored}
    for batch in embed_frames(model, store, set(recordings) - found.keys(), progress):
        found |= batch
        progress.update(n_done + len(found))
    return found


def embed_frames(
    model: AnyModel, store: Store, recordings: Collection[str], progress: Progress
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield the embeddings ``[units]`` of recordings that the store has frames of, a few at a time.

    Recordings whose frames cannot be stacked are left out.
    """
    parts = model.parts
    shards = [store.features(part) for part in parts]
    left = set(recordings)
    if not left or not all(one.exists for one in shards):
        return
    for one in shards:
        left &= one.columns().keys()
    if left and model.may_fuse:
        prepare_engine(progress.note)
    values = sum(part.values for part in parts)
    waiting: dict[str, dict[str, NDArray[np.float32]]] = {}

    def embed_waiting() -> dict[str, NDArray[np.float32]]:
        for part, one in zip(parts[1:], shards[1:], strict=True):
            for name, frames in one.frames_of(waiting):
                waiting[name][part.digest] = frames
        stacked = {}
        for name, frames_of in waiting.items():
            with contextlib.suppress(MismatchError):
                stacked[name] = _stacked(model, frames_of, name)
        waiting.clear()
        return _embed(model, stacked)

    n_frames = 0
    for name, frames in shards[0].frames_of(left):
        waiting[name] = {parts[0].digest: frames}
        n_frames += len(frames)
        if 4 * n_frames * values >= HELD_BYTES:
            yield embed_waiting()
            n_frames = 0
    yield embed_waiting()


@dataclass(frozen=True)
class EmbeddedFile:
    """The embedding of a file that was decoded.

    Attributes
    ----------
    file : ExtractedFile
        Without frames.
    vector : ndarray [units], float32
    """

    file: ExtractedFile
    vector: NDArray[np.float32]


def embed_decoded(
    model: AnyModel,
    registry: Registry,
    files: Sequence[FileToExtract],
    jobs: int,
    progress: Progress,
    *,
    n_done: int = 0,
    options: ExtractOptions | None = None,
    folder: Path | None = None,
) -> Generator[tuple[int, EmbeddedFile | str], None, None]:
    """Decode files in worker processes and embed them here meanwhile; their frames are held only for a short time.

    Parameters
    ----------
    model : AnyModel
    registry : Registry
    files : sequence of FileToExtract
        With the features of the model.
    jobs : int
        Worker processes.
    progress : Progress
        Is updated, but not started.
    n_done : int
        How many further files count as done in the progress.
    options : ExtractOptions, optional
    folder : pathlib.Path, optional
        Files that links or ``..`` put outside this folder are refused.

    Yields
    ------
    int, EmbeddedFile or str
        The number of a file, and its embedding or the reason why there is none; in the order in which they are ready.

    Raises
    ------
    MismatchError
        If the model was trained on features that the installed plugins compute differently.
    """
    require_features(model, registry)
    if model.may_fuse:
        prepare_engine(progress.note)
    waiting: dict[int, list[NDArray[np.float32]]] = {}
    extracted: dict[int, ExtractedFile] = {}
    n_failed, seconds, since = 0, 0.0, time.monotonic()

    def embed_waiting() -> Iterator[tuple[int, EmbeddedFile]]:
        for number, vector in _embed(model, waiting).items():
            yield number, EmbeddedFile(extracted.pop(number), vector)
        waiting.clear()

    with contextlib.closing(extract_files(files, jobs, options, folder)) as outcomes:
        for completed, outcome in enumerate(outcomes, 1):
            number = outcome.index
            result: ExtractedFile | list[NDArray[np.float32]] | str = outcome.result
            if isinstance(result, ExtractedFile):
                seconds += result.duration
                extracted[number] = result.without_frames()
                result = _stacked_file(model, result, files[number].path)
            if isinstance(result, str):
                n_failed += 1
                yield number, result
            else:
                since = since if waiting else time.monotonic()
                waiting[number] = result
            is_late = time.monotonic() - since > HELD_SECONDS
            if is_late or sum(frames.nbytes for sets in waiting.values() for frames in sets) >= HELD_BYTES:
                yield from embed_waiting()
            progress.update(n_done + completed, failed=n_failed, audio_seconds=seconds)
    yield from embed_waiting()


def require_features(model: AnyModel, registry: Registry) -> None:
    """Refuse to compute features for a model that the installed plugins compute differently.

    Raises
    ------
    UnknownNameError
        A plugin is missing.
    MismatchError
        One computes other features than the model was trained on.
    """
    for part in model.parts:
        registry.require("features", part.plugin, "this model")
    for features in model.feature_sets:
        if resolve_features(registry, features.spec).digests != features.digests:
            raise MismatchError(
                f"the model was trained on the features {features.spec}, which the installed plugins compute "
                "differently; install the versions that it was trained with, or fit it again"
            )


def _stacked_file(model: AnyModel, file: ExtractedFile, path: Path) -> list[NDArray[np.float32]] | str:
    """Return the frames of a file, or the reason why it does not have them."""
    for reason in file.failures.values():
        return reason
    try:
        return _stacked(model, file.frames, printable(path))
    except MismatchError as error:
        return str(error)


def _stacked(model: AnyModel, frames: Mapping[str, NDArray[np.float32]], name: str) -> list[NDArray[np.float32]]:
    """Return the frames of a track for each of the features of a model, from those of their parts by digest."""
    return [stack(one, [frames[digest] for digest in one.digests], name) for one in model.feature_sets]


def stack(features: FeaturesInfo, parts: Sequence[NDArray[np.float32]], name: str) -> NDArray[np.float32]:
    """Put the frames of stacked features side by side, cut to the shortest; ``name`` is for the message.

    Raises
    ------
    MismatchError
        They differ too much in length.
    """
    length = common_length(features, [len(part) for part in parts], name)
    return np.concatenate([part[:length] for part in parts], axis=1)


Key = TypeVar("Key")


def _embed(model: AnyModel, tracks: Mapping[Key, Sequence[NDArray[np.float32]]]) -> dict[Key, NDArray[np.float32]]:
    """Embed tracks, each given by its frames for each of the features of the model."""
    if not tracks:
        return {}
    sets = [_side_by_side(frames) for frames in zip(*tracks.values(), strict=True)]
    return dict(zip(tracks, model.embed_sets(sets), strict=True))


def _side_by_side(frames: Sequence[NDArray[np.float32]]) -> TrackFrames:
    lengths = np.array([len(one) for one in frames])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return np.concatenate(frames), starts, lengths


def write_embedded(path: Path, embedded: EmbeddedFiles, model: AnyModel, *, bom: bool = False) -> None:
    """Write one row per file: its path, and its embedding; in CSV, each value has a column.

    Raises
    ------
    StoreWriteError
        If the file cannot be written.
    """
    names = [printable(file) for file in embedded.paths]
    if path.suffix.lower() == ".parquet":
        import pyarrow as pa

        columns = {
            "path": pa.array(names, pa.string()),
            "model": pa.array([model.provenance["name"]] * len(names), pa.string()),
            "embedding": vector_column(embedded.embeddings),
        }
        write_table(path, pa.table(columns))
        return
    header = ["path", *(f"embedding_{unit}" for unit in range(embedded.embeddings.shape[1]))]
    rows = ([name, *vector] for name, vector in zip(names, embedded.embeddings.tolist(), strict=True))
    write_csv(path, header, rows, bom=bom)
