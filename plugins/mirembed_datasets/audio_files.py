"""Finding audio files under a folder, and the copy of a published dataset."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
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
    "misnamed": ("audio file", "called like another once its name is written in UTF-8: rename it"),
}
"""What is left out under an audio folder, in the words of the note that counts it."""


@dataclass(frozen=True)
class AudioFiles:
    r"""The audio files under a folder, at any depth.

    Attributes
    ----------
    files : mapping of str to pathlib.Path
        By POSIX paths relative to the folder, sorted. Bytes in them that are no UTF-8 are written as ``\xe9``.
    others : int
        Files that are not audio.
    notes : tuple of str
        What was left out and why, one line a reason.
    """

    files: Mapping[str, Path]
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
    files: dict[str, Path] = {}
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
            elif (name := _as_text(path.relative_to(root))) in files:
                left_out["misnamed"] += 1
            else:
                files[name] = path
    notes = tuple(
        f"{counted(left_out[reason], noun)} left out, {why}"
        for reason, (noun, why) in LEFT_OUT.items()
        if left_out[reason]
    )
    return AudioFiles(dict(sorted(files.items())), others, notes)


@dataclass(frozen=True)
class Clips:
    """The audio of a published dataset in one copy.

    Attributes
    ----------
    files : mapping of str to pathlib.Path
        One file for each id.
    notes : tuple of str
        Which audio files were left out and why, one line a reason.
    """

    files: Mapping[str, Path]
    notes: tuple[str, ...]


def one_file_each(candidates: Iterable[tuple[str | None, Path]], original: str) -> Clips:
    """Choose one file for each clip.

    Parameters
    ----------
    candidates : iterable of (str or None, pathlib.Path)
        Audio files with their ids; None for a file that is no clip of the dataset.
    original : str
        The suffix in the published archive, such as ``.wav``. Of several files of a clip, the one with this
        suffix is taken, else the first by suffix and name.
    """
    files: dict[str, list[Path]] = {}
    strange = 0
    for clip, file in candidates:
        if clip is None:
            strange += 1
        else:
            files.setdefault(clip, []).append(file)

    def preference(file: Path) -> tuple[bool, str, str]:
        suffix = file.suffix.lower()
        return suffix != original, suffix, file.name

    notes = []
    if spare := sum(len(several) - 1 for several in files.values()):
        notes.append(
            f"{counted(spare, 'file')} left out, a clip in a further format or spelling: {original} is taken first"
        )
    if strange:
        notes.append(f"{counted(strange, 'audio file')} left out, not named like a clip of this dataset")
    return Clips({clip: min(several, key=preference) for clip, several in files.items()}, tuple(notes))


def find_home(
    audio: Path,
    is_home: Callable[[Path], bool],
    *,
    title: str,
    expected: str,
    parts: Collection[str] = (),
    depth: int = 2,
) -> Path:
    """Find the folder in which a copy of a published dataset starts.

    Parameters
    ----------
    audio : pathlib.Path
        The folder to start from.
    is_home : callable
        Says whether a copy starts in a folder.
    title, expected : str
        The dataset, and what its copies look like, for messages.
    parts : collection of str, optional
        Names of the folders in a copy, in lower case. When ``audio`` is called so, the folder above is tried too.
    depth : int, optional
        How many levels below ``audio`` are tried.

    Raises
    ------
    DatasetError
        There is no such folder, no copy, or more than one on the same level.
    """
    require_folder(audio)
    folders = [audio]
    for _ in range(depth + 1):
        homes = [folder for folder in folders if is_home(folder)]
        if len(homes) > 1:
            raise DatasetError(
                f"{str(audio)!r} holds more than one copy of {title}: give one of "
                f"{', '.join(repr(str(home)) for home in homes)}"
            )
        if homes:
            return homes[0]
        folders = [below for folder in folders for below in subfolders(folder)]
    here = audio.absolute()
    if here.name.lower() in parts and is_home(here.parent):
        return here.parent
    raise DatasetError(f"no {title} clips in {str(audio)!r}, which holds {contents(audio)}: {expected}")


def notes_on_copy(audio: Path, home: Path, there: int, published: int) -> list[str]:
    """Say where a copy was found, unless that is ``audio``, and how much of it is there, unless that is all."""
    notes = [] if home == audio else [f"clips found in {str(home)!r}"]
    return notes if there >= published else [*notes, f"{there} of {published} clips"]


def class_folders(home: Path, classes: Mapping[str, str]) -> list[tuple[str, Path]]:
    """Return the classes of the folders in ``home`` with these folders.

    ``classes`` gives the class for the name of a folder in lower case; folders with other names are passed over.
    """
    return [(classes[folder.name.lower()], folder) for folder in subfolders(home) if folder.name.lower() in classes]


def audio_in(folder: Path) -> list[Path]:
    """Return the audio files in ``folder`` itself that are not hidden, sorted by name."""
    return sorted(
        path
        for path in folder.glob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def number_of(file: Path, most: int) -> int | None:
    """Return the number from 1 to ``most`` that ``file`` is called, leading zeros or none; None for other names."""
    if not (file.stem.isascii() and file.stem.isdecimal()):
        return None
    number = int(file.stem)
    return number if 1 <= number <= most else None


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


def _as_text(path: Path) -> str:
    """Return a path as text that can stand in a table; Linux allows any bytes in a file name."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")
