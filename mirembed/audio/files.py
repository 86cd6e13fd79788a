"""Audio files on disk: finding them, their names as text, and whether one has changed."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mirembed.errors import AudioError, DatasetError, MirembedError
from mirembed.interruption import interruptible
from mirembed.progress import counted

AUDIO_SUFFIXES = frozenset(
    {".aac", ".aif", ".aiff", ".au", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".snd", ".wav", ".wma"}
)
"""File name suffixes of audio files, in lower case."""

_SKIPPED = {
    "link": ("symbolic link", "broken, circular or leading out of the audio folder"),
    "unreadable": ("folder", "no permission to read it"),
    "misnamed": ("audio file", "another file has the same name once both are written in UTF-8: rename one"),
}
"""Kinds of paths that a walk skips, with a noun and the reason for the note that counts them."""


@dataclass(frozen=True)
class AudioFiles:
    r"""The audio files under a folder, at any depth.

    Attributes
    ----------
    files : mapping of str to pathlib.Path
        By POSIX path relative to the folder, sorted. Bytes of a name that are not UTF-8 appear as ``\xe9``.
    others : int
        Number of files that are not audio.
    notes : tuple of str
        How many paths were skipped and why, one line per reason.
    """

    files: Mapping[str, Path]
    others: int
    notes: tuple[str, ...]


def find_audio(root: Path) -> AudioFiles:
    """Find the audio files under a folder.

    Hidden files and folders are ignored. Symbolic links are followed as long as they stay inside ``root``.

    Raises
    ------
    DatasetError
        ``root`` is not a folder.
    """
    require_folder(root)
    paths, skipped = _walk(root)
    others = skipped.pop("other", 0)
    files: dict[str, Path] = {}
    for path in paths:
        name = printable(path.relative_to(root))
        if name in files:
            skipped["misnamed"] += 1
        else:
            files[name] = path
    reasons = [(skipped[reason], noun, why) for reason, (noun, why) in _SKIPPED.items()]
    notes = tuple(f"skipped {counted(number, noun)} ({why})" for number, noun, why in reasons if number)
    return AudioFiles(dict(sorted(files.items())), others, notes)


def audio_files(paths: Sequence[Path]) -> list[Path]:
    """Expand folders into the audio files under them; files are kept as given.

    Raises
    ------
    MirembedError
        A path does not exist, or a folder holds no audio file.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise MirembedError(f"{path} does not exist; give audio files or folders of audio files")
        found = _walk(path)[0] if path.is_dir() else [path]
        if not found:
            raise MirembedError(f"{path} contains no audio files ({' '.join(sorted(AUDIO_SUFFIXES))})")
        files += found
    return list(dict.fromkeys(files))


def is_audio(path: Path) -> bool:
    """Whether a path is a file with the suffix of an audio file, and not hidden."""
    return path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".") and path.is_file()


def require_folder(root: Path) -> None:
    """Raise `DatasetError` unless ``root`` is a folder."""
    if not root.exists():
        raise DatasetError(f"there is no folder {str(root)!r}; give the folder that contains the audio")
    if not root.is_dir():
        raise DatasetError(f"{str(root)!r} is a file; give the folder that contains the audio")


def require_inside(path: Path, folder: Path) -> None:
    """Refuse a file that a link, or ``..``, puts outside the audio folder.

    A dataset that was given one folder of its copy may also list the folders beside it: a path that does not begin
    with ``folder`` must stay inside the parent of ``folder``.

    Raises
    ------
    AudioError
    """
    path, folder = path.absolute(), folder.absolute()
    top = folder if path.is_relative_to(folder) else folder.parent
    try:
        real, home = path.resolve(), top.resolve()
    except (OSError, RuntimeError) as error:  # circular links
        raise AudioError(f"cannot be read: {error}") from error
    if not real.is_relative_to(home):
        raise AudioError(f"points outside the audio folder, to {printable(real)}; copy the file into the folder")


def printable(path: Path) -> str:
    r"""Return a path as text; bytes that are not UTF-8 appear as ``\xe9``.

    >>> import os
    >>> printable(Path(os.fsdecode(b"caf\xe9.wav")))
    'caf\\xe9.wav'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def file_stamp(path: Path) -> tuple[int, int]:
    """Return a file's size in bytes and its modification time in nanoseconds; (-1, -1) if it cannot be accessed.

    A time that 64 bits do not hold, before 1678 or after 2262, is the nearest that they do.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return -1, -1
    return status.st_size, max(-(2**63), min(2**63 - 1, status.st_mtime_ns))


@interruptible()
def file_hash(path: Path) -> str:
    """Return the BLAKE2b digest of a file's bytes, 32 hexadecimal digits; empty if it cannot be read."""
    # Opening a pipe or a device would wait forever.
    if not path.is_file():
        return ""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return ""


def default_timeout(path: Path) -> float:
    """Return how many seconds decoding a file may take: five minutes plus one second per megabyte, at most an hour."""
    return min(3600.0, 300 + max(0, file_stamp(path)[0]) / 1e6)


@interruptible()
def _walk(root: Path) -> tuple[list[Path], Counter[str]]:
    """Return the audio files under ``root``, sorted, and how many paths were skipped for which reason."""
    home = root.resolve()
    files: list[Path] = []
    skipped: Counter[str] = Counter()
    pending = [(root, frozenset({home}))]
    while pending:
        folder, ancestors = pending.pop()
        if not os.access(folder, os.R_OK | os.X_OK):
            skipped["unreadable"] += 1
            continue
        for path in folder.iterdir():
            if path.name.startswith("."):
                continue
            if path.is_symlink() and not _may_follow(path, home, ancestors):
                skipped["link"] += 1
            elif path.is_dir():
                pending.append((path, ancestors | {path.resolve()}))
            elif is_audio(path):
                files.append(path)
            else:
                skipped["other"] += 1
    return sorted(files), skipped


def _may_follow(link: Path, home: Path, ancestors: frozenset[Path]) -> bool:
    """Whether a link stays inside ``home``, leads to something that exists, and to no folder it is inside of."""
    target = Path(os.path.realpath(link))
    return target.is_relative_to(home) and target not in ancestors and target.exists()
