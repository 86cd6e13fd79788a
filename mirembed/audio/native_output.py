"""Keep native libraries from writing to the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class NativeOutput:
    """Output of native libraries while they were silenced.

    Attributes
    ----------
    lines : int
        Number of lines; known once the ``with`` block of `silenced` has ended.
    """

    lines: int = 0


@contextlib.contextmanager
def silenced() -> Iterator[NativeOutput]:
    """Count the lines that native libraries write to file descriptors 1 and 2 instead of showing them.

    Anything that Python has printed before is flushed first. The descriptors belong to the whole process: what Python
    prints inside the block, or in another thread, may be counted too.
    """
    output = NativeOutput()
    _flush()
    sink = os.memfd_create("native-output")
    terminal = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    try:
        for descriptor in terminal:
            os.dup2(sink, descriptor)
        yield output
    finally:
        for descriptor, original in terminal.items():
            os.dup2(original, descriptor)
            os.close(original)
        _flush()
        with os.fdopen(sink, "rb") as written:
            if os.fstat(sink).st_size:  # usually nothing was written, and this runs for every block of samples
                written.seek(0)
                output.lines = sum(1 for _ in written)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
