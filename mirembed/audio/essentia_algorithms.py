"""Essentia's algorithms, created one at a time; and native libraries kept from writing to the terminal.

Essentia may be missing: there is no wheel of it for some platforms.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any


@dataclass
class Chatter:
    """What native libraries wrote while they were silenced.

    Attributes
    ----------
    lines : int
        Known when the ``with`` block of `silenced` has ended.
    """

    lines: int = 0


@contextlib.contextmanager
def silenced() -> Iterator[Chatter]:
    """Count, and do not show, the lines that native libraries write to file descriptors 1 and 2.

    What Python has printed before is flushed first, so that none of it is caught. The descriptors belong to the
    whole process: what Python prints inside the block, or in another thread, may be taken for chatter.

    Yields
    ------
    Chatter
    """
    chatter = Chatter()
    _flush()
    with _nameless_file() as sink:
        terminal = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
        try:
            for descriptor in terminal:
                os.dup2(sink.fileno(), descriptor)
            yield chatter
        finally:
            for descriptor, original in terminal.items():
                os.dup2(original, descriptor)
                os.close(original)
            _flush()
            sink.seek(0)
            chatter.lines = sum(1 for _ in sink)


def algorithm(name: str, **parameters: object) -> Any:
    """Create and configure one of Essentia's algorithms.

    ``essentia.standard`` instantiates all of its 250 algorithms when it is imported (1.4 s, 140 MiB), and its
    ``compute`` converts types at every call. The extension module below it, which has no public name, does
    neither. This is the only module that uses it.

    Parameters
    ----------
    name : str
        As in Essentia's reference, for instance ``Windowing``.
    **parameters
        Parameters of the algorithm, converted to Essentia's types.

    Returns
    -------
    _essentia.Algorithm
        To be run by ``__compute__``, which takes contiguous float32 arrays only.

    Raises
    ------
    RuntimeError
        Essentia refuses a parameter.
    """
    with silenced():
        from essentia import _essentia
        from essentia.common import convertData

        instance = _essentia.Algorithm(name)
        instance.__configure__(
            **{key: convertData(value, instance.paramType(key)) for key, value in parameters.items()}
        )
    return instance


@functools.cache
def why_not() -> str | None:
    """Return why Essentia cannot be imported; None when it can."""
    try:
        with silenced():
            import essentia._essentia  # noqa: F401
    except Exception as error:  # whatever a broken installation raises
        return str(error) or type(error).__name__
    return None


def audio_to_file(name: str, raw: str) -> tuple[int, int]:
    """Decode an audio file by Essentia's streaming mode, of which only a buffer is in memory at any time.

    Parameters
    ----------
    name : str
        The audio file.
    raw : str
        Where the mean of the channels goes, as float32.

    Returns
    -------
    rate : int
        Hz.
    n_samples : int
        How many there should be in the file: Essentia does not notice a full disk.

    Raises
    ------
    RuntimeError
        Essentia cannot decode it.
    """
    with silenced():
        from essentia import _essentia
        from essentia.common import Pool

        loader, mixer, output = map(_essentia.StreamingAlgorithm, ("AudioLoader", "MonoMixer", "FileOutput"))
        loader.__configure__(filename=name)
        mixer.__configure__(type="mix")
        output.__configure__(filename=raw, mode="binary")
        pool = Pool()
        _essentia.connect(loader, "audio", mixer, "audio")
        _essentia.connect(loader, "numberChannels", mixer, "numberChannels")
        _essentia.poolConnect(loader, "sampleRate", pool.cppPool, "rate")
        for unused in ("md5", "bit_rate", "codec"):
            _essentia.nowhereConnect(loader, unused)
        _essentia.fileOutputConnect(mixer, "audio", output)
        _essentia.run(loader)
        return int(pool["rate"]), int(_essentia.totalProduced(mixer, "audio"))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _nameless_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("chatter"), "w+b")
    return tempfile.TemporaryFile()
