"""Playlists in files: M3U, M3U8, PLS and XSPF."""

from __future__ import annotations

import codecs
import contextlib
import math
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from mirembed.audio.files import printable
from mirembed.errors import DatasetError
from mirembed.interruption import interruptible
from mirembed.progress import joined

PLAYLIST_SUFFIXES = frozenset({".m3u", ".m3u8", ".pls", ".xspf"})
"""File name suffixes of playlists, in lower case."""

M3U_SUFFIXES = (".m3u8", ".m3u")
"""File name suffixes of playlists that can be written."""

MAX_BYTES = 2**26
"""A larger file is not a playlist, whatever its name."""

_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
"""Characters that a line must not contain: control characters, line ends, direction overrides, lone surrogates."""


@dataclass(frozen=True)
class PlaylistEntry:
    r"""An entry of a playlist.

    Attributes
    ----------
    location : str
        As in the playlist: a path or URL.
    path : pathlib.Path or None
        The file, absolute; it need not exist. None for a stream or another remote address. A Windows drive becomes a
        folder in the root: ``/C:/Music``.
    title : str or None
    """

    location: str
    path: Path | None
    title: str | None = None


@interruptible()
def read_playlist(path: Path) -> list[PlaylistEntry]:
    """Read a playlist, in the format of its suffix.

    Paths may be absolute, relative to the playlist, or ``file://`` URLs, with slashes or backslashes. Text is UTF-8,
    UTF-16 with a byte order mark, or else Windows-1252.

    Raises
    ------
    DatasetError
        The file cannot be read, or is not a playlist.
    """
    suffix, name = path.suffix.lower(), printable(path)
    if suffix not in PLAYLIST_SUFFIXES:
        endings = joined(sorted(PLAYLIST_SUFFIXES), "or")
        raise DatasetError(f"{name} is not a playlist; expected a file name ending in {endings}")
    try:
        if not path.is_file():
            raise DatasetError(f"{name} is not a file; give a playlist")
        if path.stat().st_size > MAX_BYTES:
            raise DatasetError(f"{name} is larger than {MAX_BYTES // 2**20} MiB, so it is not a playlist")
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read the playlist {name}: {error.strerror}") from error
    entries = _pls(content) if suffix == ".pls" else _xspf(name, content) if suffix == ".xspf" else _m3u(content)
    folder = Path(os.path.abspath(path)).parent  # noqa: PTH100  (links are not followed)
    return [PlaylistEntry(_text(place), _file(place, folder), title or None) for place, title in entries]


def find_playlists(folder: Path) -> list[Path]:
    """Return the playlists in a folder, at any depth, sorted; hidden files and folders are skipped."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names = (name for name in files if not name.startswith("."))
        found += [Path(parent, name) for name in names if Path(name).suffix.lower() in PLAYLIST_SUFFIXES]
    return sorted(found)


def playlist_matcher(files: Iterable[Path]) -> Callable[[PlaylistEntry], Path | None]:
    """Return a function that finds the file of an entry, even after the library has moved.

    If there is no file with exactly this path, it is the one that shares the most names at the end of the path: at
    least those of the file and its folder, whatever their case and Unicode form. If several share as many, it is none.
    """
    exact: dict[str, Path] = {}
    named: dict[str, list[tuple[list[str], Path]]] = {}
    real: dict[Path, str] = {}
    for file in files:
        absolute = os.path.abspath(file)  # noqa: PTH100
        if file.parent not in real:
            real[file.parent] = os.path.realpath(file.parent)
        exact.setdefault(str(Path(real[file.parent], file.name)), file)
        exact[absolute] = file
        names = _names(absolute)
        named.setdefault(names[0], []).append((names, file))

    def match(entry: PlaylistEntry) -> Path | None:
        if entry.path is None:
            return None
        if (file := exact.get(str(entry.path))) is not None:
            return file
        wanted = _names(str(entry.path))
        lengths = [(_n_common(names, wanted), file) for names, file in named.get(wanted[0], ())]
        most = max((length for length, _ in lengths), default=0)
        best = [file for length, file in lengths if length == most]
        return best[0] if most >= 2 and len(best) == 1 else None

    return match


@dataclass(frozen=True)
class PlaylistTrack:
    """A track in a playlist to write.

    Attributes
    ----------
    path : str
        Line that names the file; see `playlist_path`.
    name : str
        Artist and title.
    seconds : float
        Duration; NaN if unknown.
    comment : str
        For people who read the file; players ignore it.
    """

    path: str
    name: str
    seconds: float = math.nan
    comment: str = ""


def playlist_text(tracks: Iterable[PlaylistTrack]) -> str:
    r"""Return the content of an M3U playlist, to be written in UTF-8.

    >>> print(playlist_text([PlaylistTrack("a.mp3", "Nina Simone - Sinnerman", 622.4, "seed")]), end="")
    #EXTM3U
    # mirembed: seed
    #EXTINF:622,Nina Simone - Sinnerman
    a.mp3
    """
    lines = ["#EXTM3U"]
    for track in tracks:
        if track.comment:
            # VLC looks for options after "#" and spaces, so the comment never begins with a title.
            lines.append(f"# mirembed: {_on_a_line(track.comment)}")
        seconds = -1 if math.isnan(track.seconds) else round(track.seconds)
        lines += [f"#EXTINF:{seconds},{_on_a_line(track.name)}", track.path]
    return "\n".join(lines) + "\n"


def playlist_path(path: Path, folder: Path | None = None) -> str | None:
    r"""Return the line of a playlist that names a file; None if there is none.

    A line is text in UTF-8, so it cannot contain a name with a line break, or with bytes that are not UTF-8. A
    relative path that players would take for a comment or an address, or whose first space they would remove, begins
    with ``./``.

    Parameters
    ----------
    path : pathlib.Path
        The file, absolute.
    folder : pathlib.Path or None
        The folder to which the path is made relative; None for an absolute path.

    Examples
    --------
    >>> playlist_path(Path("/music/#1/a.mp3"), Path("/music"))
    './#1/a.mp3'
    >>> playlist_path(Path("/music/a.mp3"), Path("/home/me"))
    '../../music/a.mp3'
    >>> playlist_path(Path("/music/a\nb.mp3")) is None
    True
    """
    line = str(path) if folder is None else _relative(path, folder)
    if "\n" in line or "\r" in line or not _is_utf8(line):
        return None
    return f"./{line}" if re.match(r"[#\s]|[A-Za-z][\w+.-]*:", line) else line


def _names(path: str) -> list[str]:
    """Return the names in a path, last one first, in a form in which names that look alike are equal."""
    return [unicodedata.normalize("NFC", name).casefold() for name in reversed(path.strip("/").split("/"))]


def _n_common(one: list[str], other: list[str]) -> int:
    equal = (a == b for a, b in zip(one, other, strict=False))
    return next((number for number, same in enumerate(equal) if not same), min(len(one), len(other)))


def _m3u(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield location and title of each entry."""
    title = ""
    for line in _lines(content):
        if line.startswith("#"):
            found = re.match(r"#EXTINF:[^,]*,(.*)", line, re.IGNORECASE)
            title = _text(found[1]).strip() if found else title
        elif line:
            yield line, title
            title = ""


def _pls(content: bytes) -> Iterator[tuple[str, str]]:
    values = {}
    for line in _lines(content):
        if found := re.match(r"(file|title)(\d{1,9})\s*=\s*(.+)", line, re.IGNORECASE):
            values[found[1].lower(), int(found[2])] = found[3]
    for kind, number in sorted(values):
        if kind == "file":
            yield values[kind, number], _text(values.get(("title", number), ""))


def _xspf(name: str, content: bytes) -> Iterator[tuple[str, str]]:
    from xml.etree import ElementTree

    try:
        root = ElementTree.fromstring(content)  # noqa: S314  (expat limits the expansion of entities)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DatasetError(f"{name} is not an XSPF playlist: {error}") from error
    for track in root.iterfind(".//{*}track"):
        location = (track.findtext("{*}location") or "").strip()
        if location:
            title = (track.findtext("{*}title") or "").strip()
            # A location is a URL, even without file://.
            local = not re.match(r"[A-Za-z][\w+.-]+:", location, re.ASCII)
            yield os.fsdecode(unquote_to_bytes(location)) if local else location, title


def _lines(content: bytes) -> list[str]:
    """Return the lines of a text; bytes that are not UTF-8 become surrogates, as in file names."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16", "replace")
    else:
        text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    return [line.strip(" \t\0") for line in re.split(r"[\r\n]+", text)]


def _text(raw: str) -> str:
    """Return a text of a playlist; if it has bytes that are not UTF-8, it is decoded as Windows-1252."""
    if not re.search("[\udc80-\udcff]", raw):
        return raw
    return raw.encode("utf-8", "surrogateescape").decode("cp1252", "replace")


def _file(raw: str, folder: Path) -> Path | None:
    """Return the absolute path of a location; None if it is remote."""
    if re.match(r"file:", raw, re.IGNORECASE):
        with contextlib.suppress(ValueError):
            parts = urlsplit(raw)
            host = "" if parts.netloc.lower() in ("", "localhost") else f"/{parts.netloc}"
            return _absolute(host + os.fsdecode(unquote_to_bytes(parts.path)), folder)
        return None
    if re.match(r"[A-Za-z][\w+.-]+://", raw, re.ASCII):
        return None
    # A name may contain a backslash, or bytes that are not UTF-8: the spelling that exists is meant.
    spellings = dict.fromkeys(spelling for text in (raw, _text(raw)) for spelling in (text, text.replace("\\", "/")))
    paths = [_absolute(spelling, folder) for spelling in spellings]
    return next(filter(_exists, paths), paths[-1])


def _exists(path: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return path.exists()
    return False


def _absolute(text: str, folder: Path) -> Path:
    if re.match(r"[A-Za-z]:[\\/]", text):
        text = "/" + text.replace("\\", "/")
    return Path(os.path.normpath(folder / text.replace("\0", "")))


def _relative(path: Path, folder: Path) -> str:
    """Return a path relative to a folder that also works, if possible, where links are followed before ``..``.

    Some programs remove ``..`` together with the name before it, but the system follows a link first.
    """
    line = os.path.relpath(path, folder)
    real = os.path.realpath(folder)
    if os.path.realpath(os.path.join(real, line)) == os.path.realpath(path):  # noqa: PTH118
        return line
    return os.path.relpath(path, real)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _on_a_line(text: str) -> str:
    return " ".join(_UNSHOWN.sub(" ", text).split())
