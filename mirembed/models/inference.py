"""Audio files → embeddings, with a fitted model and without a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mirembed.extract import ExtractedFile, extract_files
from mirembed.models.model import Model
from mirembed.progress import Progress
from mirembed.spectrogram import SpectrogramParameters
from mirembed.store.features import compare_parameters
from mirembed.training.engine import prepare_engine

MAX_FRAMES = 400_000
"""Of the spectrograms that are held at once: about 60 MB, whatever the length of the files."""


@dataclass(frozen=True)
class EmbeddedFiles:
    """Embeddings of files, in the order in which they were given.

    Attributes
    ----------
    paths : list of pathlib.Path
        Those that could be read.
    embeddings : ndarray [n_files, units], float32
    failures : list of (pathlib.Path, str)
        The others, with the reason.
    """

    paths: list[Path]
    embeddings: NDArray[np.float32]
    failures: list[tuple[Path, str]]


def embed_files(model: Model, paths: Sequence[Path], jobs: int, progress: Progress) -> EmbeddedFiles:
    """Embed audio files: spectrograms in worker processes, embeddings here.

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
    for outcome in extract_files(paths, jobs):
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
        progress.update(outcome.number, failed=len(failures), audio_seconds=seconds)
    rows |= _embed(model, waiting)
    done = sorted(rows)
    return EmbeddedFiles(
        paths=[paths[index] for index in done],
        embeddings=np.stack([rows[index] for index in done])
        if done
        else np.zeros((0, model.network.units), np.float32),
        failures=[(paths[index], failures[index]) for index in sorted(failures)],
    )


def _embed(model: Model, files: dict[int, ExtractedFile]) -> dict[int, NDArray[np.float32]]:
    if not files:
        return {}
    lengths = np.array([len(file.frames) for file in files.values()])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    embeddings = model.embed(np.concatenate([file.frames for file in files.values()]), starts, lengths)
    return dict(zip(files, embeddings, strict=True))
