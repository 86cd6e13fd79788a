"""Compute the features of audio files in worker processes, which a broken file may crash."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mirembed import workers
from mirembed.audio.by_essentia import essentia_error
from mirembed.audio.files import default_timeout, file_hash, file_stamp, require_inside
from mirembed.errors import AudioError
from mirembed.features import FeaturesPart
from mirembed.features.compute import compute, create_features
from mirembed.hookspecs import Features
from mirembed.registry import Registry
from mirembed.workers.processes import ForkServer, forkserver

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WORKER_MEMORY = 3 * 2**30
"""Bytes. Half an hour of stereo that only Essentia can decode takes a third of it."""

WORKER_KEPT = 256 * 2**20
"""Bytes that a worker may keep between two files; about twice what it needs."""

_IN_FLIGHT = 4
"""Files handed out per worker, so that workers continue while this process writes or embeds what they sent."""

_READINGS = 3
"""How often a file is read that another program changes meanwhile."""


@dataclass(frozen=True)
class ExtractOptions:
    """How files are decoded; the features do not depend on it.

    Attributes
    ----------
    backend : str
        Value of the parameter ``backend`` of features; see `mirembed.features.compute.create_features`.
    timeout : float or None
        Seconds that one file may take. None: see `mirembed.audio.files.default_timeout`.
    """

    backend: str = "auto"
    timeout: float | None = None


@dataclass(frozen=True)
class FileToExtract:
    """One file, as it is sent to a worker.

    Attributes
    ----------
    path : pathlib.Path
        Need not be valid UTF-8.
    ids : tuple of str
        The ids under which a dataset lists it.
    features : tuple of FeaturesPart
        What to compute.
    """

    path: Path
    ids: tuple[str, ...]
    features: tuple[FeaturesPart, ...]


@dataclass(frozen=True, kw_only=True)
class ExtractedFile:
    """The features of one file, as a worker returns them.

    Attributes
    ----------
    recording : str
        BLAKE2b digest of the file's bytes, see `mirembed.audio.files.file_hash`.
    file_size, file_mtime_ns : int
        Bytes and nanoseconds, to recognize an unchanged file without reading it.
    frames : dict of str to ndarray [n_frames, values], float32
        By the digest of the features.
    failures : dict of str to str
        Why other features could not be computed, by their digest.
    backends : dict of str to str
        The library that computed the frames, by the digest of the features; empty where there is no choice.
    audio_hash : str or None
        Digest of the decoded samples, see `mirembed.audio.decoding.Sound`; None if the file was not decoded.
    duration : float
        Seconds; 0 if the file was not decoded.
    rate, channels : int
        Likewise.
    decoder_messages : int
        See `mirembed.audio.decoding.Sound`.
    notes : tuple of str
        Likewise.
    """

    recording: str
    file_size: int
    file_mtime_ns: int
    frames: dict[str, NDArray[np.float32]]
    failures: dict[str, str]
    backends: dict[str, str]
    audio_hash: str | None = None
    duration: float = 0.0
    rate: int = 0
    channels: int = 0
    decoder_messages: int = 0
    notes: tuple[str, ...] = ()

    def without_frames(self) -> ExtractedFile:
        """Return the same with no frames, ``[0, values]``, of the same features."""
        return replace(self, frames={digest: frames[:0].copy() for digest, frames in self.frames.items()})


@dataclass(frozen=True)
class _Task:
    file: FileToExtract
    folder: Path | None
    backend: str


def extract_files(
    files: Sequence[FileToExtract], jobs: int, options: ExtractOptions | None = None, folder: Path | None = None
) -> Generator[workers.Done[ExtractedFile | str], None, None]:
    """Compute the features of files in worker processes, in the order in which they are ready.

    Parameters
    ----------
    files : sequence of FileToExtract
    jobs : int
        Worker processes.
    options : ExtractOptions, optional
    folder : pathlib.Path, optional
        Files that links or ``..`` put outside this folder are refused.

    Yields
    ------
    workers.Done
        The index of a file, and its features or the reason why there are none at all.

    Raises
    ------
    PluginError
        A plugin cannot be created in a worker, or does not take the backend.
    MismatchError
        A worker finds another version of a plugin than this process.
    """
    options = options or ExtractOptions()
    tasks = [_Task(file, folder, options.backend) for file in files]
    limits = workers.Limits(lambda task: options.timeout or default_timeout(task.file.path), WORKER_MEMORY, WORKER_KEPT)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(prepare_extraction(min(jobs, len(files)), options))
        results = workers.run(_extract_file, tasks, max(1, jobs), per_worker=_IN_FLIGHT, limits=limits, server=server)
        # Closed first: the workers end before the process that forked them.
        for outcome in stack.enter_context(contextlib.closing(results)):
            if isinstance(outcome, workers.Done):
                yield outcome
            else:
                origins = " and ".join(part.origin for part in files[outcome.index].features)
                yield workers.Done(outcome.index, f"{outcome.reason}; it was computing {origins}")


def prepare_extraction(jobs: int, options: ExtractOptions) -> contextlib.AbstractContextManager[ForkServer | None]:
    """Start the process that forks the workers of `extract_files`, while the caller still plans in a ``with`` block.

    A single worker starts from scratch.
    """
    if jobs < 2:
        return contextlib.nullcontext()
    load = load_scipy if options.backend == "scipy" else load_audio
    return forkserver(f"{__name__}:{load.__name__}")


def load_audio() -> None:
    """Import what workers need, plugins too, in the process that they are forked from. They create the plugins."""
    import soundfile  # noqa: F401

    Registry.discover()
    if essentia_error():
        load_scipy()


def load_scipy() -> None:
    """Import what workers need for the backend scipy."""
    import scipy.fft  # noqa: F401
    import soundfile  # noqa: F401

    Registry.discover()


def _extract_file(task: _Task) -> ExtractedFile | str:
    file, path = task.file, task.file.path
    # Not inside the block below: if a plugin cannot be created, no file can be extracted.
    features = [(part, _plugin(part, task.backend)) for part in file.features]
    try:
        if task.folder is not None:
            require_inside(path, task.folder)
        for _ in range(_READINGS):
            size, mtime = file_stamp(path)
            found = compute(features, path, file.ids)
            recording = file_hash(path)
            if file_stamp(path) == (size, mtime):
                break
        else:
            raise AudioError("changes while it is being read")
        facts = {}
        if found.sound is not None:
            names = ("audio_hash", "duration", "rate", "channels", "decoder_messages", "notes")
            facts = {name: getattr(found.sound, name) for name in names}
        if not recording:
            raise AudioError("vanished while it was being read")
        return ExtractedFile(
            recording=recording,
            file_size=size,
            file_mtime_ns=mtime,
            frames=found.frames,
            failures=found.failures,
            backends={part.digest: str(getattr(plugin, "backend", "")) for part, plugin in features},
            **facts,
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


@functools.cache
def _plugin(part: FeaturesPart, backend: str) -> Features:
    """Create the plugin that computes features, once for each worker."""
    return create_features(Registry.discover(), part, backend)
