"""Finding audio files under folders, and knowing an unchanged one without reading it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mirembed.errors import AudioError, MirembedError

AUDIO_SUFFIXES = frozenset(
    {".aac", ".aif", ".aiff", ".au", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".snd", ".wav", ".wma"}
)
"""File name endings that are taken for audio, in lower case."""


def audio_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files that are given, and the audio files at any depth of the folders that are given.

    Hidden files and folders are left out, links that lead out of a folder are not followed.

    Raises
    ------
    MirembedError
        If a path does not exist, or a folder holds no audio file.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise MirembedError(f"{path} does not exist; give audio files or folders of audio files")
        if not path.is_dir():
            files.append(path)
            continue
        found = sorted(file for file in path.rglob("*") if _is_audio(file, path))
        if not found:
            raise MirembedError(f"{path} holds no audio file ({' '.join(sorted(AUDIO_SUFFIXES))})")
        files += found
    return list(dict.fromkeys(files))


def file_stamp(path: Path) -> tuple[int, int]:
    """Return the size and the time stamp of a file, in bytes and nanoseconds; (-1, -1) when it cannot be seen."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def printable(path: Path) -> str:
    r"""Return the name of a file as text: bytes that are no UTF-8 are written as ``\xe9``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def patience(path: Path) -> float:
    """Return the seconds that decoding a file may take: five minutes, and one second more for each megabyte."""
    return 300 + max(0, file_stamp(path)[0]) / 1e6


def require_inside(path: Path, folder: Path) -> None:
    """Refuse a file that a link, or ``..``, puts outside the audio folder.

    A dataset that was given one folder of its copy may list the folders beside it: what is not under ``folder`` by
    its name is to be under the folder above.

    Raises
    ------
    AudioError
    """
    path, folder = path.absolute(), folder.absolute()
    top = folder if path.is_relative_to(folder) else folder.parent
    try:
        real, home = path.resolve(), top.resolve()
    except (OSError, RuntimeError) as error:  # links that lead in a circle
        raise AudioError(f"cannot be read: {error}") from error
    if not real.is_relative_to(home):
        raise AudioError(f"leads out of the audio folder, to {printable(real)}: copy the file into the folder")


def _is_audio(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    inside = file.resolve().is_relative_to(root.resolve())
    return not hidden and inside and file.suffix.lower() in AUDIO_SUFFIXES and file.is_file()
