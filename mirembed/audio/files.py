"""Audio files on disk: finding them, their names as text, and whether one has changed."""

from __future__ import annotations

import errno
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from mirembed.errors import AudioError, DatasetError, MirembedError
from mirembed.interruption import interruptible
from mirembed.progress import counted, first_names

AUDIO_SUFFIXES = frozenset(
    {
        *(
            ".aac",
            ".ac3",
            ".aif",
            ".aifc",
            ".aiff",
            ".au",
            ".bwf",
            ".caf",
            ".flac",
            ".m4a",
            ".m4b",
            ".m4r",
            ".mka",
            ".mp2",
        ),
        *(".mp3", ".mp4", ".mpga", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".tta", ".voc", ".w64", ".wav", ".wave"),
        *(".wma", ".wv"),
    }
)
"""File name suffixes of audio files, in lower case: those of the formats that soundfile or Essentia decodes."""

_EXPECTED = f"expected files ending in {', '.join(sorted(AUDIO_SUFFIXES))}"
"""For messages about folders without audio."""

_NAMED = 5
"""The most skipped paths, or endings, to name in a note."""


@dataclass(frozen=True)
class AudioFiles:
    r"""The audio files under a folder, at any depth.

    Attributes
    ----------
    files : mapping of str to pathlib.Path
        By POSIX path relative to the folder, sorted. The path is in Unicode's composed form (NFC) whatever it is on
        the disk, unless two files would have the same name. Bytes of a name that are not UTF-8 appear as ``\xe9``.
    others : int
        Number of files that are not audio.
    notes : tuple of str
        What was skipped and why, one line per reason.
    """

    files: Mapping[str, Path]
    others: int
    notes: tuple[str, ...]


def find_audio(root: Path) -> AudioFiles:
    """Find the audio files under a folder.

    Hidden files and folders are skipped. Symbolic links are followed as long as they stay inside ``root`` and are not
    in a folder that a link led to. Folders that cannot be read are skipped. There is a note for everything that is
    skipped.

    Raises
    ------
    DatasetError
        ``root`` is not a folder.
    """
    require_folder(root)
    walk = _Walk(root)
    paths = walk.find(root)
    start = len(str(root / "x")) - 1
    named = [(str(path)[start:], path) for path in paths]
    composed = [(name if name.isascii() else normalize("NFC", printable(name)), name, path) for name, path in named]
    files: dict[str, Path] = {}
    for as_composed, as_found, path in sorted(composed, key=lambda one: one[0] != one[1]):
        name = as_composed if as_composed not in files else printable(as_found)
        if name in files:
            walk.skip(_MISNAMED, path)
        else:
            files[name] = path
    return AudioFiles(dict(sorted(files.items())), walk.others.total(), walk.notes())


def audio_files(paths: Sequence[Path]) -> tuple[list[Path], tuple[str, ...]]:
    """Expand folders into the audio files under them, by the rules of `find_audio`; files are kept as given.

    Returns
    -------
    files : list of pathlib.Path
        In the order of ``paths``, each once.
    notes : tuple of str
        What was skipped and why, one line per reason.

    Raises
    ------
    MirembedError
        A path does not exist, or a folder holds no audio file.
    """
    require_existing(paths)
    walk = _Walk()
    files: dict[str, Path] = {}
    for given in paths:
        found = walk.find(given) if given.is_dir() else [given]
        if not found:
            why = "; ".join(walk.notes()) or "no visible file in it"
            raise MirembedError(f"{printable(given)} contains no audio files ({why}); {_EXPECTED}")
        for path in found:
            if files.setdefault(printable(path), path) != path:
                walk.skip(_MISNAMED, path)
    return list(files.values()), walk.notes()


def require_existing(paths: Sequence[Path]) -> None:
    """Refuse paths of which one does not exist; a quick check, before `audio_files`.

    Raises
    ------
    MirembedError
    """
    for path in paths:
        if not os.path.exists(path):  # noqa: PTH110 (unlike Path.exists, it never raises)
            raise MirembedError(f"{printable(path)} does not exist; give audio files or folders of audio files")


def is_audio(path: Path) -> bool:
    """Whether a path is a file with the suffix of an audio file, and not hidden."""
    return _is_audio_name(path.name) and os.path.isfile(path)  # noqa: PTH113 (unlike Path.is_file, it never raises)


def _is_audio_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES and not is_hidden_name(name)  # noqa: PTH122


def is_hidden(path: Path) -> bool:
    """Whether the name of a file or folder begins with a dot; with several dots, it is a title.

    >>> is_hidden(Path("music/.trash")), is_hidden(Path("music/...And Justice for All"))
    (True, False)
    """
    return is_hidden_name(path.name)


def is_hidden_name(name: str) -> bool:
    """Whether a file or folder with this name is hidden; see `is_hidden`."""
    return name.startswith(".") and not name.startswith("..")


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
    text = os.fspath(path)
    return text if text.isascii() else os.fsencode(text).decode("utf-8", "backslashreplace")


def failures_json(failures: Iterable[tuple[Path, str]]) -> list[dict[str, str]]:
    """Return files that failed, with the reasons, as JSON."""
    return [{"path": printable(path), "reason": reason} for path, reason in failures]


def file_stamp(path: Path) -> tuple[int, int]:
    """Return a file's size in bytes and its modification time in nanoseconds; (-1, -1) if it cannot be accessed.

    A time before 1678 or after 2262, which does not fit in 64 bits, is replaced by the nearest that does.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 (faster than Path.stat)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return -1, -1
    return status.st_size, max(-(2**63), min(2**63 - 1, status.st_mtime_ns))


@interruptible()
def file_hash(path: Path) -> str:
    """Return the BLAKE2b digest of a file's bytes, 32 hexadecimal digits; empty if it cannot be read."""
    # Opening a pipe or a device would wait forever. Path.is_file raises errors, of a drive that fails for example.
    if not os.path.isfile(path):  # noqa: PTH113
        return ""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return ""


def default_timeout(path: Path) -> float:
    """Return how many seconds decoding a file may take: five minutes plus one second per megabyte, at most an hour."""
    return min(3600.0, 300 + max(0, file_stamp(path)[0]) / 1e6)


_LINK = "symbolic link", "broken, circular, inside another link, or leading out of the audio folder"
_HIDDEN = "hidden path", "the name begins with a dot"
_SPECIAL = "path", "a pipe, socket or device"
_MISNAMED = "audio file", "another file has the same name in UTF-8: rename one of them"
"""What is skipped: a noun and the reason, for the note that counts them."""


class _Walk:
    """Finds the audio files under folders, and remembers what it skips.

    Parameters
    ----------
    top : pathlib.Path, optional
        Notes name paths relative to this folder.
    """

    def __init__(self, top: Path | None = None) -> None:
        self._top = top
        self._skipped: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        self.others: Counter[str] = Counter()  # files that are not audio, by their endings

    def skip(self, why: tuple[str, str], path: Path | str) -> None:
        """Remember that a path was skipped."""
        path = Path(path)
        self._skipped[why].append(printable(path if self._top is None else path.relative_to(self._top)))

    def notes(self) -> tuple[str, ...]:
        """Return what was skipped and why, one line per reason."""
        notes = [
            f"skipped {counted(len(names), noun)} ({reason}): {first_names(sorted(names), _NAMED)}"
            for (noun, reason), names in sorted(self._skipped.items())
        ]
        if self.others:
            endings = [f"{number} {ending or 'without ending'}" for ending, number in self.others.most_common()]
            notes.append(
                f"skipped {counted(self.others.total(), 'file')} (other endings): {first_names(endings, _NAMED)}"
            )
        return tuple(notes)

    @interruptible()
    def find(self, root: Path) -> list[Path]:
        """Return the audio files under ``root``, sorted."""
        home = Path(os.path.realpath(root))
        files: list[str] = []
        pending = [(str(root), home, False)]
        while pending:
            folder, real, linked = pending.pop()
            for entry in self._entries(folder):
                name = entry.name
                try:
                    # What most entries are, found out first, because there may be hundreds of thousands.
                    is_visible = name[0] != "." and name[name.rfind(".") :].lower() in AUDIO_SUFFIXES
                    if is_visible and entry.is_file(follow_symlinks=False):
                        files.append(entry.path)
                        continue
                    ending = os.path.splitext(name)[1].lower()  # noqa: PTH122 (much faster than Path, as below)
                    target = Path(os.path.realpath(entry.path)) if entry.is_symlink() else None
                    if is_hidden_name(entry.name):
                        if ending in AUDIO_SUFFIXES or entry.is_dir():
                            self.skip(_HIDDEN, entry.path)
                    elif target is not None and not _may_follow(target, real, home, linked):
                        self.skip(_LINK, entry.path)
                    elif entry.is_dir():
                        pending.append((entry.path, target or real / entry.name, linked or target is not None))
                    elif ending not in AUDIO_SUFFIXES:
                        self.others[printable(Path(ending)) if ending else ""] += 1
                    elif entry.is_file():
                        files.append(entry.path)
                    else:
                        self.skip(_SPECIAL, entry.path)
                except OSError as error:
                    self.skip(("path", error.strerror or str(error)), entry.path)
        return [Path(file) for file in sorted(files, key=lambda file: file.replace("/", "\0"))]  # by parts

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        """Return what is in a folder; nothing if it cannot be read or searched, which is remembered."""
        try:
            if not os.access(folder, os.R_OK | os.X_OK):
                os.stat(folder)  # noqa: PTH116 (it may be gone, or the drive)
                raise PermissionError(errno.EACCES, "no permission to read it")
            with os.scandir(folder) as entries:
                return list(entries)
        except OSError as error:
            self.skip(("folder", error.strerror or str(error)), folder)
            return []


def _may_follow(target: Path, folder: Path, home: Path, linked: bool) -> bool:
    """Whether a link leads to something inside ``home``: a file, or a folder that does not hold ``folder``.

    In a folder that a link led to, links to other folders are not followed: folders that are linked with each other
    would be found along every path between them.
    """
    if not target.is_relative_to(home) or not os.path.exists(target):  # noqa: PTH110
        return False
    return not target.is_dir() or not (linked or folder.is_relative_to(target))
