"""Finding audio files under a folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mirembed import DatasetError

SUFFIXES = frozenset(
    {".aac", ".aif", ".aiff", ".au", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".snd", ".wav", ".wma"}
)
"""File name endings that are taken for audio, in lower case."""

LEFT_OUT = {
    "link": ("symbolic link", "leading outside the audio folder, in a circle or to nothing"),
    "unreadable": ("folder", "without permission to read it"),
    "misnamed": ("audio file", "with a name that is not valid UTF-8: rename it"),
}
"""What is left out under an audio folder, in the words of the note that counts it."""


@dataclass(frozen=True)
class AudioFiles:
    """The audio files under a folder, at any depth.

    Attributes
    ----------
    files : tuple of str
        POSIX paths relative to the folder, sorted.
    others : int
        Files that are not audio.
    notes : tuple of str
        What was left out and why, one line a reason.
    """

    files: tuple[str, ...]
    others: int
    notes: tuple[str, ...]


def find_audio(root: Path) -> AudioFiles:
    """Find the audio files under ``root``.

    Hidden files and folders are skipped. A symbolic link is followed while its target stays under ``root``.

    Raises
    ------
    DatasetError
        ``root`` is not a folder.
    """
    require_folder(root)
    home = root.resolve()
    files: list[str] = []
    others = 0
    left_out: Counter[str] = Counter()
    pending = [(root, frozenset({home}))]
    while pending:
        folder, above = pending.pop()
        if not os.access(folder, os.R_OK | os.X_OK):
            left_out["unreadable"] += 1
            continue
        for path in folder.iterdir():
            if path.name.startswith("."):
                continue
            if path.is_symlink() and _leads_astray(path, home, above):
                left_out["link"] += 1
            elif path.is_dir():
                pending.append((path, above | {path.resolve()}))
            elif path.suffix.lower() not in SUFFIXES or not path.is_file():
                others += 1
            elif not _is_utf8(path.relative_to(root)):
                left_out["misnamed"] += 1
            else:
                files.append(path.relative_to(root).as_posix())
    notes = tuple(
        f"{counted(left_out[reason], noun)} left out, {why}"
        for reason, (noun, why) in LEFT_OUT.items()
        if left_out[reason]
    )
    return AudioFiles(tuple(sorted(files)), others, notes)


def require_folder(root: Path) -> None:
    """Raise `DatasetError` unless ``root`` is a folder."""
    if not root.exists():
        raise DatasetError(f"there is no folder {str(root)!r}: give the folder that holds the audio")
    if not root.is_dir():
        raise DatasetError(f"{str(root)!r} is a file: give the folder that holds the audio")


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in ``folder`` that are not hidden, sorted by name; none where it cannot be read."""
    return sorted(path for path in folder.glob("*/") if not path.name.startswith("."))


def contents(folder: Path) -> str:
    """Say in a few words what ``folder`` holds, for a message about a wrong folder."""
    folders = [path.name for path in subfolders(folder)]
    files = sorted(path.name for path in folder.glob("*") if path.is_file())
    return f"{counted(len(folders), 'folder')}{_some(folders)} and {counted(len(files), 'file')}{_some(files)}"


def counted(number: int, noun: str) -> str:
    """Return the number with its noun in singular or plural, as in "3 files"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _some(names: Iterable[str], most: int = 3) -> str:
    """Return the first names in brackets; nothing where there are none."""
    shown = [repr(name) for name in names]
    if not shown:
        return ""
    return f" ({', '.join(shown[:most])}{', …' if len(shown) > most else ''})"


def _leads_astray(link: Path, home: Path, above: frozenset[Path]) -> bool:
    """Return whether ``link`` leaves ``home``, points to a folder that holds it, or to nothing."""
    target = Path(os.path.realpath(link))
    return not target.is_relative_to(home) or target in above or not target.exists()


def _is_utf8(path: Path) -> bool:
    """Return whether the name can stand in a table; Linux allows any bytes in a file name."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True
