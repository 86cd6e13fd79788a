"""Audio files → spectrograms, in worker processes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mirembed import workers
from mirembed.audio_files import file_stamp
from mirembed.errors import AudioError
from mirembed.spectrogram import spectrogram

_IN_FLIGHT = 4
"""Files handed out per worker: the workers go on while this process writes or embeds what they sent."""


@dataclass(frozen=True)
class ExtractedFile:
    """What a worker makes of one file."""

    frames: np.ndarray[Any, np.dtype[np.float32]]
    duration: float
    file_hash: str
    audio_hash: str
    file_size: int
    file_mtime_ns: int
    chatter: int


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


def extract_files(paths: Sequence[Path], jobs: int) -> Iterator[FileOutcome]:
    """Compute the spectrograms of files in worker processes, in the order in which they are ready."""
    outcomes = workers.run(_extract_file, list(map(str, paths)), max(1, jobs), per_worker=_IN_FLIGHT)
    for number, outcome in enumerate(outcomes, 1):
        if isinstance(outcome, workers.Crashed):
            yield FileOutcome(outcome.index, number, outcome.reason)
        else:
            yield FileOutcome(outcome.index, number, outcome.result)


def _extract_file(name: str) -> ExtractedFile | str:
    path = Path(name)
    try:
        size, mtime = file_stamp(path)
        result = spectrogram(path)
        return ExtractedFile(
            frames=result.frames,
            duration=result.duration,
            file_hash=file_hash(path),
            audio_hash=result.audio_hash,
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


def file_hash(path: Path) -> str:
    """Return the digest of a file's bytes; empty when it cannot be read."""
    # Opening a pipe or a device would wait for ever.
    if not path.is_file():
        return ""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return ""
