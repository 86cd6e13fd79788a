"""Finding audio files under folders, and knowing an unchanged one without reading it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mirembed.errors import MirembedError

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


def _is_audio(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    inside = file.resolve().is_relative_to(root.resolve())
    return not hidden and inside and file.suffix.lower() in AUDIO_SUFFIXES and file.is_file()
