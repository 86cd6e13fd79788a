"""Audio files to embeddings with a fitted model and no store, and tables of the results for other programs."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.files import printable
from mirembed.config import defaults
from mirembed.errors import SpecError
from mirembed.extract import ExtractedFile, FileToExtract, extract_files
from mirembed.features import resolve_features
from mirembed.hookspecs import Classification, Task
from mirembed.models.embeddings import write_embeddings
from mirembed.models.model import Model
from mirembed.progress import Progress
from mirembed.registry import Registry
from mirembed.spectrogram import SpectrogramParameters
from mirembed.store.features import compare_parameters
from mirembed.store.files import write_table, writing
from mirembed.store.rows import label_names
from mirembed.training.engine import prepare_engine

SUFFIXES = (".csv", ".parquet")

MAX_FRAMES = 400_000
"""Number of frames held at once: about 60 MB, however long the files are."""


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
    parts = resolve_features(Registry.discover(), defaults.FEATURES).parts
    progress.start("embedding", len(paths))
    failures: dict[int, str] = {}
    rows: dict[int, NDArray[np.float32]] = {}
    waiting: dict[int, ExtractedFile] = {}
    n_frames = 0
    seconds = 0.0
    for completed, outcome in enumerate(extract_files([FileToExtract(path, (), parts) for path in paths], jobs), 1):
        if isinstance(outcome.result, str):
            failures[outcome.index] = outcome.result
        elif outcome.result.failures:
            failures[outcome.index] = next(iter(outcome.result.failures.values()))
        else:
            waiting[outcome.index] = outcome.result
            n_frames += len(next(iter(outcome.result.frames.values())))
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
    frames = [next(iter(file.frames.values())) for file in files.values()]
    lengths = np.array([len(one) for one in frames])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    embeddings = model.embed(np.concatenate(frames), starts, lengths)
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
