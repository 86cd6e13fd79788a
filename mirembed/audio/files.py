"""Audio files on disk: finding them, their names as text, whether one has changed, and the length in its header."""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

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


PADDING = 0.25
"""Seconds by which the decoded and the stated length may differ: encoders add some before and after the music."""

_UNKNOWN = 2**31 - 2**16
"""Bytes. A program that writes a WAV to a pipe does not know its size yet and states 2 or 4 GiB."""

_PCM = (1, 3, 0xFFFE)
"""WAV format tags whose bytes per second follow from the other fields: integer, float, extensible."""

_AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
"""Bytes per sample, by the encoding in the header of an AU file."""


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


def printable(path: Path | str) -> str:
    r"""Return a path as text; bytes that are not UTF-8 appear as ``\xe9``.

    >>> import os
    >>> printable(Path(os.fsdecode(b"caf\xe9.wav")))
    'caf\\xe9.wav'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def file_stamp(path: Path) -> tuple[int, int]:
    """Return a file's size in bytes and its modification time in nanoseconds; (-1, -1) if it cannot be accessed."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


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
    """Return how many seconds decoding a file may take: five minutes plus one second per megabyte."""
    return 300 + max(0, file_stamp(path)[0]) / 1e6


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


@dataclass(frozen=True)
class Header:
    """The length of a file according to its own header.

    Attributes
    ----------
    stated : float
        Length in seconds; 0 if none is stated.
    by_size : float
        MPEG only, otherwise 0: length in seconds of all the file's bytes at the bit rate of its header or, without
        one, of its first frame.
    cut : bool
        Whether the end of the file is missing, as far as the format shows it.
    """

    stated: float = 0.0
    by_size: float = 0.0
    cut: bool = False


def read_header(path: Path) -> Header:
    """Read the header of a file; one that cannot be read states no length."""
    with path.open("rb") as file:
        start = file.read(12)
        if start[:4] in (b"RIFF", b"RF64") and start[8:] == b"WAVE":
            return Header(_wave_seconds(file))
        if start[:4] == b".snd":
            return Header(_au_seconds(start + file.read(12)))
        if start[:4] == b"OggS":
            return Header(cut=not _has_last_page(file))
    return _by_mutagen(path)


def _by_mutagen(path: Path) -> Header:
    import mutagen
    from mutagen.aac import AACInfo
    from mutagen.ac3 import AC3Info
    from mutagen.mp3 import BitrateMode, MPEGInfo

    info: Any = None
    # Damaged tags make mutagen raise almost anything. The sound may be fine: only the stated length is lost.
    with contextlib.suppress(Exception):
        info = getattr(mutagen.File(os.fsencode(path)), "info", None)
    match info:
        # No length, or an estimate from the file's size.
        case None | AACInfo() | AC3Info():
            return Header()
        case MPEGInfo():
            stated = 0.0 if info.bitrate_mode is BitrateMode.UNKNOWN else info.length
            return Header(stated, 8 * (path.stat().st_size - info.frame_offset) / (info.bitrate or 1))
    return Header(getattr(info, "length", 0.0))


def _wave_seconds(file: IO[bytes]) -> float:
    """Return the length stated by the header of a WAV or RF64 file: the size of its data over the bytes per second."""
    bytes_per_second, large = 0, 0
    while len(chunk := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", chunk)
        if name == b"data":
            size = large if size == 2**32 - 1 and large else size
            known = large > 0 or size <= _UNKNOWN
            return size / bytes_per_second if known and bytes_per_second else 0.0
        content = file.read(min(size, 64))
        if name == b"fmt " and len(content) >= 16:
            tag, n_channels, rate, bytes_per_second, _, bits = struct.unpack("<HHIIHH", content[:16])
            if tag in _PCM:
                bytes_per_second = rate * n_channels * ((bits + 7) // 8)
        elif name == b"ds64" and len(content) >= 16:
            large = struct.unpack("<Q", content[8:16])[0]
        file.seek(size - len(content) + size % 2, os.SEEK_CUR)
    return 0.0


def _au_seconds(header: bytes) -> float:
    """Return the length stated by the header of an AU file."""
    if len(header) < 24:
        return 0.0
    _, _, size, encoding, rate, n_channels = struct.unpack(">4s5I", header)
    bytes_per_second = rate * n_channels * _AU_BYTES.get(encoding, 0)
    return size / bytes_per_second if size <= _UNKNOWN and bytes_per_second else 0.0


def _has_last_page(file: IO[bytes]) -> bool:
    """Whether an Ogg file ends with a page marked as the last."""
    largest_page = 27 + 255 + 255 * 255
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 2 * largest_page))
    end = file.read()
    page = end.rfind(b"OggS\0")
    end_of_stream = 4
    return page >= 0 and len(end) > page + 5 and bool(end[page + 5] & end_of_stream)
