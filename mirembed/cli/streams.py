"""Standard output and standard error: closed, full, or shared with native code."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from mirembed.errors import MirembedError


class _Results(io.FileIO):
    """The file of standard output. Once it fails, what is still to be written goes nowhere."""

    def write(self, data: Any) -> int:
        """Write bytes.

        Raises
        ------
        BrokenPipeError
            The reader (``head``, say) has gone.
        MirembedError
            The file cannot be written otherwise.
        """
        try:
            return super().write(data)
        except OSError as error:
            # Python would try again, and complain once more, when it closes the file at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if isinstance(error, BrokenPipeError):
                raise
            raise MirembedError(f"standard output cannot be written ({error.strerror})") from error


def open_closed_streams() -> None:
    """Let what is written to a standard output or standard error that the caller has closed go nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))


def keep_stdout_for_results() -> None:
    """Send to standard error what native code and worker processes write to the standard output that they know."""
    stdout = sys.stdout
    if stdout is not sys.__stdout__ or not isinstance(stdout, io.TextIOWrapper):
        return  # standard output is closed, or is caught by whoever runs us
    stdout.flush()
    results = _Results(os.dup(stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), stdout.fileno())
    # Names of files need not be valid text; what cannot be printed is escaped.
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(results),
        encoding=stdout.encoding,
        errors="backslashreplace",
        line_buffering=results.isatty(),
    )
