"""Audio files → spectrograms, in worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mirembed import workers
from mirembed.audio.files import default_timeout, file_hash, file_stamp, printable, require_inside
from mirembed.errors import AudioError
from mirembed.hookspecs import Track
from mirembed.spectrogram import DEFAULTS, choose_backend, spectrogram
from mirembed.store import SpectrogramRow

WORKER_MEMORY = 3 * 2**30
"""Bytes. Half an hour of stereo that only Essentia decodes takes a third of it."""

WORKER_KEPT = 256 * 2**20
"""Bytes that a worker may keep between two files; about twice what it needs."""

_IN_FLIGHT = 4
"""Files handed out per worker: the workers go on while this process writes or embeds what they sent."""


@dataclass(frozen=True)
class Handling:
    """How files are decoded; it does not change the numbers.

    Attributes
    ----------
    backend : {"auto", "essentia", "scipy"}
    timeout : float or None
        Seconds that one file may take; None: see `mirembed.audio.files.default_timeout`.
    """

    backend: str = "auto"
    timeout: float | None = None


@dataclass(frozen=True)
class ExtractedFile:
    """What a worker makes of one file."""

    frames: np.ndarray[Any, np.dtype[np.float32]]
    duration: float
    file_hash: str
    audio_hash: str
    backend: str
    file_size: int
    file_mtime_ns: int
    chatter: int

    def row_of(self, track: Track) -> SpectrogramRow:
        """Return the row of the store for the track whose file this is."""
        return SpectrogramRow(
            id=track.id,
            label=track.label,
            group=track.group,
            path=printable(track.path),
            duration=self.duration,
            file_hash=self.file_hash,
            audio_hash=self.audio_hash,
            backend=self.backend,
            file_size=self.file_size,
            file_mtime_ns=self.file_mtime_ns,
            frames=self.frames,
        )


@dataclass(frozen=True)
class FileOutcome:
    """One file's spectrogram, or the reason why there is none.

    Attributes
    ----------
    index : int
        Of the path in the call.
    number : int
        How many outcomes have come, this one included.
    result : ExtractedFile or str
    """

    index: int
    number: int
    result: ExtractedFile | str


@dataclass(frozen=True)
class _File:
    """A file on its way to a worker. The path need not be valid text, and travels as it is."""

    path: Path
    folder: Path | None
    backend: str


def extract_files(
    paths: Sequence[Path], jobs: int, handling: Handling | None = None, folder: Path | None = None
) -> Iterator[FileOutcome]:
    """Compute the spectrograms of files in worker processes, in the order in which they are ready.

    Parameters
    ----------
    paths : sequence of pathlib.Path
    jobs : int
        Worker processes.
    handling : Handling, optional
    folder : pathlib.Path, optional
        Files that links or ``..`` put outside this folder are refused.

    Raises
    ------
    SpecError
        If the backend is not there.
    """
    handling = handling or Handling()
    if handling.backend != "auto":  # which each worker finds out for itself
        choose_backend(handling.backend)
    files = [_File(path, folder, handling.backend) for path in paths]
    limits = workers.Limits(lambda file: handling.timeout or default_timeout(file.path), WORKER_MEMORY, WORKER_KEPT)
    outcomes = workers.run(_extract_file, files, max(1, jobs), per_worker=_IN_FLIGHT, limits=limits)
    for number, outcome in enumerate(outcomes, 1):
        if isinstance(outcome, workers.Crashed):
            yield FileOutcome(outcome.index, number, outcome.reason)
        else:
            yield FileOutcome(outcome.index, number, outcome.result)


def _extract_file(file: _File) -> ExtractedFile | str:
    path = file.path
    try:
        if file.folder is not None:
            require_inside(path, file.folder)
        size, mtime = file_stamp(path)
        result = spectrogram(path, DEFAULTS, file.backend)
        return ExtractedFile(
            frames=result.frames,
            duration=result.duration,
            file_hash=file_hash(path),
            audio_hash=result.audio_hash,
            backend=result.backend,
            file_size=size,
            file_mtime_ns=mtime,
            chatter=result.chatter,
        )
    except AudioError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except MemoryError:
        return "needs more memory than there is"
    # Decoders meet files of any kind, and one of them must not end the work on all others.
    except Exception as error:
        return f"cannot be read: {type(error).__name__}: {error}"
