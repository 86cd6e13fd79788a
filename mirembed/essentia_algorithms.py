"""Essentia's algorithms, created one at a time; and native libraries kept from writing to the terminal."""

from __future__ import annotations

import contextlib
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
    neither. This is the only place that uses it.

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


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _nameless_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("chatter"), "w+b")
    return tempfile.TemporaryFile()
