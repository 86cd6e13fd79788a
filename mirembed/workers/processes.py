"""How this program starts another Python."""

from __future__ import annotations

import os
import subprocess
import sys

_START = "import pkgutil, sys; sys.path[:] = sys.argv[3:]; pkgutil.resolve_name(sys.argv[1])(int(sys.argv[2]))"

# One thread a worker: they share the cores among themselves.
_ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_ENVIRONMENT["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # torch's deterministic algorithms on CUDA need it


def start_python(function: str, descriptor: int) -> subprocess.Popen[bytes]:
    """Start a process that finds modules as this one does and calls ``function(descriptor)``.

    Parameters
    ----------
    function : str
        ``module:function``
    descriptor : int
        Of an open file, which the process inherits.
    """
    return subprocess.Popen(  # noqa: S603, this Python and our own code
        [sys.executable, "-c", _START, function, str(descriptor), *sys.path],
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        env={**os.environ, **_ENVIRONMENT},
    )
