"""Compute the features of audio files in worker processes, which a broken file may crash."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mirembed import workers

WORKER_MEMORY = 3 * 2**30
"""Bytes. Half an hour of stereo that only Essentia can decode takes a third of it."""

WORKER_KEPT = 256 * 2**20
"""Bytes that a worker may keep between two files; about twice what it needs."""

_IN_FLIGHT = 4
"""Files handed out per worker, so that workers continue while this process writes or embeds what they sent."""


@dataclass(frozen=True)
class ExtractOptions:
    """How files are decoded; the features do not depend on it.

    Attributes
    ----------
    backend : {"auto", "essentia", "scipy"}
    timeout : float or None
        Seconds that one file may take. None: see `mirembed.audio.files.default_timeout`.
    """

    backend: str = "auto"
    timeout: float | None = None


@dataclass(frozen=True, kw_only=True)
class ExtractedFile:
    recording: str
    audio_hash: str | None
    duration: float
    rate: int
    file_size: int
    file_mtime_ns: int
    frames: dict[str, NDArray[np.float32]]
    backends: dict[str, str]
    failures: dict[str, str]
    decoder_messages: int


@dataclass(frozen=True)
class FileToExtract:
    path: Path
    ids: tuple[str, ...]
    features: tuple[str, ...]


def extract_files(
    files: Sequence[FileToExtract], jobs: int, options: ExtractOptions | None = None, folder: Path | None = None
) -> Iterator[workers.Done[ExtractedFile | str]]:
    raise NotImplementedError
