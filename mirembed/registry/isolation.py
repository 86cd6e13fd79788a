"""Running the code of plugins: what it prints is no result, and what it raises is no bug of the host."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from mirembed.errors import MirembedError, PluginError


@contextlib.contextmanager
def plugin_code(failure: str) -> Iterator[None]:
    """Run code of a plugin in a ``with`` block. What it prints goes to standard error.

    Parameters
    ----------
    failure : str
        Who failed at what, should it fail: ``learner knn of mirembed-knn 1.0 fails to fit 15 tracks``.

    Raises
    ------
    PluginError
        Whatever the code raises, `SystemExit` included. `MirembedError` passes as it is, being the user's to mend,
        and `KeyboardInterrupt`, which is the user's ctrl-C.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (MirembedError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PluginError(f"{failure}: {one_line(error)}; report it to that plugin's authors") from error


def one_line(error: BaseException) -> str:
    """Return an error in one line, with its type unless it is one of mirembed's own."""
    text = " ".join(str(error).split())
    return text if isinstance(error, MirembedError) else f"{type(error).__name__}: {text}".rstrip(": ")
