"""``mirembed`` and ``python -m mirembed``: handles ctrl-C before anything large is imported."""

import os
import signal
import sys


def main() -> None:
    """Run the program; see `mirembed.cli.main`."""
    _read_names_as_utf8()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # ctrl-C waits until there is a handler
    from mirembed.interruption import handle_interrupts

    handle_interrupts()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        os.getcwd()  # noqa: PTH109
    except OSError as error:  # libraries fail on it in ways of their own
        sys.exit(f"error: the current folder cannot be used ({error.strerror}); change to another one")
    _need_no_home()
    from mirembed.cli.main import main as run

    run()


def _read_names_as_utf8() -> None:
    """Start again in Python's UTF-8 mode if the locale has another encoding for the names of files.

    Ids of tracks are names of files. They must not depend on the locale of the terminal. What is printed still does.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1" or not sys.executable:
        return
    os.environ["PYTHONUTF8"] = "1"
    if sys.stdout is not None:
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


def _need_no_home() -> None:
    """Give libraries a temporary folder for their caches if the user has no home folder.

    They would fail, or make a folder named ``~`` in the current one.
    """
    if os.path.isabs(os.path.expanduser("~")):  # noqa: PTH111, PTH117 (Path.home raises)
        return
    import atexit
    import shutil
    import tempfile

    os.environ["HOME"] = tempfile.mkdtemp(prefix="mirembed-home-")
    atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)


if __name__ == "__main__":
    main()
