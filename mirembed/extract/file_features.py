"""Compute the features of audio files in worker processes, which a broken file may crash."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mirembed import workers
from mirembed.audio.files import default_timeout, file_hash, file_stamp, require_inside
from mirembed.errors import AudioError
from mirembed.spectrogram import choose_backend, spectrogram
from mirembed.store import FileFeatures

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
class ExtractedFile(FileFeatures):
    """The features of one file, as a worker returns them.

    Attributes
    ----------
    decoder_messages : int
        See `mirembed.audio.Sound`.
    """

    decoder_messages: int


@dataclass(frozen=True)
class _File:
    """One file, as it is sent to a worker. The path need not be valid UTF-8."""

    path: Path
    folder: Path | None
    backend: str


def extract_files(
    paths: Sequence[Path], jobs: int, options: ExtractOptions | None = None, folder: Path | None = None
) -> Iterator[workers.Done[ExtractedFile | str]]:
    """Compute the features of files in worker processes, in the order in which they are ready.

    Parameters
    ----------
    paths : sequence of pathlib.Path
    jobs : int
        Worker processes.
    options : ExtractOptions, optional
    folder : pathlib.Path, optional
        Files that links or ``..`` put outside this folder are refused.

    Yields
    ------
    workers.Done
        The index of a path, and its features or the reason why there are none.

    Raises
    ------
    SpecError
        The backend is not available.
    """
    options = options or ExtractOptions()
    if options.backend != "auto":  # each worker finds out for itself
        choose_backend(options.backend)
    files = [_File(path, folder, options.backend) for path in paths]
    limits = workers.Limits(lambda file: options.timeout or default_timeout(file.path), WORKER_MEMORY, WORKER_KEPT)
    outcomes = workers.run(_extract_file, files, max(1, jobs), per_worker=_IN_FLIGHT, limits=limits)
    for outcome in outcomes:
        yield outcome if isinstance(outcome, workers.Done) else workers.Done(outcome.index, outcome.reason)


def _extract_file(file: _File) -> ExtractedFile | str:
    path = file.path
    try:
        if file.folder is not None:
            require_inside(path, file.folder)
        size, mtime = file_stamp(path)
        found = spectrogram(path, backend=file.backend)
        return ExtractedFile(
            frames=found.frames,
            duration=found.duration,
            file_hash=file_hash(path),
            audio_hash=found.audio_hash,
            backend=found.backend,
            file_size=size,
            file_mtime_ns=mtime,
            decoder_messages=found.decoder_messages,
        )
    except AudioError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except MemoryError:
        return "needs more memory than there is"
    # Decoders meet all kinds of files, and a single one must not end the work on all others.
    except Exception as error:
        return f"cannot be read: {type(error).__name__}: {error}"
