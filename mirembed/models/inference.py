"""What a fitted model says: embeddings of audio files, tables of results for other programs, and the nearest tracks.

Embedding audio files needs no store. Ranking stored embeddings needs no network, and with the built-in similarities no
torch.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.files import audio_files, file_hash, printable
from mirembed.errors import AudioError, MirembedError, SpecError
from mirembed.extract import ExtractedFile, extract_files
from mirembed.hookspecs import Classification, Task
from mirembed.models.model import Model, find_model, read_provenance
from mirembed.models.saved import read_embeddings, write_embeddings
from mirembed.progress import Progress
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.spectrogram import SpectrogramParameters
from mirembed.store import FeatureStore, Store
from mirembed.store.features import compare_parameters
from mirembed.store.files import write_table, writing
from mirembed.store.rows import label_names
from mirembed.training.engine import prepare_engine
from mirembed.training.similarity import PluginSimilarity
from mirembed.workers import available_jobs

SUFFIXES = (".csv", ".parquet")

MAX_FRAMES = 400_000
"""Number of frames held at once: about 60 MB, however long the files are."""


UNLEARNED = Spec("cosine")
"""Ranks the embeddings of models that learned no similarity (``nn``, ``fl``)."""


@dataclass(frozen=True)
class EmbeddedFiles:
    """Embeddings of files, in the order in which the files were given.

    Attributes
    ----------
    paths : list of pathlib.Path
        Files that could be read.
    embeddings : ndarray [n_files, units], float32
    failures : list of (pathlib.Path, str)
        The other files, with the reason.
    """

    paths: list[Path]
    embeddings: NDArray[np.float32]
    failures: list[tuple[Path, str]]


def embed_files(model: Model, paths: Sequence[Path], jobs: int, progress: Progress) -> EmbeddedFiles:
    """Embed audio files: spectrograms in worker processes, embeddings in this one.

    Raises
    ------
    MismatchError
        If the model was trained on spectrograms that this version computes differently.
    """
    compare_parameters(model.parameters, SpectrogramParameters().to_json(), "the model", "this version of mirembed")
    if model.engine == "auto":
        prepare_engine(progress.note)
    progress.start("embedding", len(paths))
    failures: dict[int, str] = {}
    rows: dict[int, NDArray[np.float32]] = {}
    waiting: dict[int, ExtractedFile] = {}
    n_frames = 0
    seconds = 0.0
    for completed, outcome in enumerate(extract_files(paths, jobs), 1):
        if isinstance(outcome.result, str):
            failures[outcome.index] = outcome.result
        else:
            waiting[outcome.index] = outcome.result
            n_frames += len(outcome.result.frames)
            seconds += outcome.result.duration
        if n_frames >= MAX_FRAMES:
            rows |= _embed(model, waiting)
            waiting.clear()
            n_frames = 0
        progress.update(completed, failed=len(failures), audio_seconds=seconds)
    rows |= _embed(model, waiting)
    done = sorted(rows)
    return EmbeddedFiles(
        paths=[paths[index] for index in done],
        embeddings=np.array([rows[index] for index in done], np.float32).reshape(-1, model.network.units),
        failures=[(paths[index], failures[index]) for index in sorted(failures)],
    )


def _embed(model: Model, files: dict[int, ExtractedFile]) -> dict[int, NDArray[np.float32]]:
    if not files:
        return {}
    lengths = np.array([len(file.frames) for file in files.values()])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    embeddings = model.embed(np.concatenate([file.frames for file in files.values()]), starts, lengths)
    return dict(zip(files, embeddings, strict=True))


def check_suffix(path: Path | None) -> None:
    """Refuse an output file whose suffix does not name a format, before any work is done.

    Raises
    ------
    SpecError
    """
    if path is not None and path.suffix.lower() not in SUFFIXES:
        raise SpecError(f"--out {path}: expected a file name ending in {' or '.join(SUFFIXES)}")


def write_predictions(path: Path, rows: Sequence[Mapping[str, Any]], task: Task) -> None:
    """Write one row per file, CSV or Parquet: its path, and the predicted label or targets.

    Parameters
    ----------
    path : pathlib.Path
    rows : sequence of mapping
        With the key ``path`` and those of `mirembed.models.model.named_predictions`.
    task : Classification or Regression

    Raises
    ------
    StoreWriteError
        If the file cannot be written.
    """
    names = label_names(task)
    if path.suffix.lower() == ".parquet":
        import pyarrow as pa

        kind = pa.string() if isinstance(task, Classification) else pa.float64()
        schema = pa.schema([("path", pa.string()), *((name, kind) for name in names)])
        write_table(path, pa.Table.from_pylist([dict(row) for row in rows], schema=schema))
        return
    _write_csv(path, ["path", *names], [list(row.values()) for row in rows])


def write_embedded(path: Path, embedded: EmbeddedFiles, model: Model) -> None:
    """Write embeddings of files: as Parquet the same table as `fit` writes, as CSV the id and numbered columns.

    Raises
    ------
    StoreWriteError
        If the file cannot be written.
    """
    names = [printable(file) for file in embedded.paths]
    if path.suffix.lower() == ".parquet":
        write_embeddings(path, names, embedded.embeddings, model.provenance)
        return
    columns = ["id", *(f"embedding_{unit}" for unit in range(embedded.embeddings.shape[1]))]
    _write_csv(
        path, columns, [[name, *vector] for name, vector in zip(names, embedded.embeddings.tolist(), strict=True)]
    )


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with writing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


@dataclass(frozen=True)
class Neighbors:
    """Tracks by descending similarity.

    Attributes
    ----------
    query : str
    similarity : str
        Spec of the similarity that ranks them.
    tracks : list of (str, float)
    failures : list of (pathlib.Path, str)
        Files of the searched folder that could not be read.
    """

    query: str
    similarity: str
    tracks: list[tuple[str, float]]
    failures: list[tuple[Path, str]]

    def to_json(self) -> dict[str, Any]:
        """Return the neighbors as JSON."""
        return {
            "query": self.query,
            "similarity": self.similarity,
            "neighbors": [{"track": name, "similarity": value} for name, value in self.tracks],
            "failures": [{"path": printable(path), "reason": reason} for path, reason in self.failures],
        }


def neighbors(
    store: Store,
    registry: Registry,
    model: str,
    track: str,
    *,
    top: int,
    inside: Path | None,
    dataset: Spec | None,
    jobs: int | None,
    progress: Progress,
) -> Neighbors:
    """Rank tracks by their similarity to ``track``, which is left out itself.

    Parameters
    ----------
    model : str
        The folder of a model, or its name in the store.
    track : str
        An id among the stored embeddings, or an audio file.
    inside : pathlib.Path or None
        Search this folder of audio files in place of the store.
    dataset : Spec or None
        The dataset of the store to search; by default the one that the model was fitted to.
    jobs : int or None
        Worker processes; by default one per core.

    Raises
    ------
    MirembedError
        If model, track or embeddings do not exist.
    """
    folder = find_model(store.models, model)
    files = [] if inside is None else audio_files([inside])
    provenance = read_provenance(folder)
    is_file = Path(track).is_file()
    itself, failures = {track}, []
    query = None
    if is_file or inside is not None:
        n_jobs = jobs or available_jobs()
        loaded = Model.load(folder, registry)
        if is_file:
            embedded = embed_files(loaded, [Path(track)], n_jobs, progress)
            if embedded.failures:
                raise AudioError(f"{printable(Path(track))}: {embedded.failures[0][1]}")
            query = embedded.embeddings[0]
    if inside is None or query is None:
        features = store.find(dataset or Spec.parse(provenance["dataset"]["spec"]))
        names, candidates = read_embeddings(features.embeddings / f"{folder.name}.parquet", provenance)
        if query is None:
            query = candidates[_index_of(track, names)]
        else:
            itself = _ids_of(features, Path(track))
    if inside is not None:
        embedded = embed_files(loaded, files, n_jobs, progress)
        names, candidates = [printable(path) for path in embedded.paths], embedded.embeddings
        failures = embedded.failures
        if is_file:
            itself |= {printable(path) for path in embedded.paths if path.samefile(track)}
    similarity = _learned_similarity(provenance, registry)
    if similarity is None:
        similarity = UNLEARNED
        progress.note(f"{folder.name} learned no similarity; ranking by the {UNLEARNED} similarity of its embeddings")
    values = PluginSimilarity.create(registry, similarity).ranking_similarities(query, candidates)
    order = np.argsort(-values, kind="stable")
    ranked = [(names[i], float(values[i])) for i in order if names[i] not in itself]
    return Neighbors(track, str(similarity), ranked[:top], failures)


def _ids_of(features: FeatureStore, path: Path) -> set[str]:
    """Return the ids of the tracks whose audio is this file or a copy of it."""
    index = features.index().select(["id", "path", "file_hash"]).to_pylist()
    resolved, content = path.resolve(), file_hash(path)
    return {row["id"] for row in index if Path(row["path"]).resolve() == resolved or row["file_hash"] == content}


def _index_of(track: str, names: list[str]) -> int:
    if track not in names:
        near = difflib.get_close_matches(track, names) or names[:3]
        raise MirembedError(
            f"{track!r} is neither an audio file nor one of the {len(names)} tracks with stored embeddings, "
            f"such as {', '.join(near)}"
        )
    return names.index(track)


def _learned_similarity(provenance: Mapping[str, Any], registry: Registry) -> Spec | None:
    """Return the similarity that a model learned, by its full name if another plugin has the short one now."""
    entry = provenance["settings"]["approaches"].get(provenance["approach"], {})
    if "similarity" not in entry:
        return None
    spec = Spec.parse(entry["similarity"]["spec"])
    plugin = registry.require("similarity", entry["similarity"], f"the model {provenance['name']}")
    return Spec(registry.shown_name(plugin), spec.parameters)
