"""Playlists as files: M3U in UTF-8."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mirembed.errors import SpecError

PLAYLIST_SUFFIXES = (".m3u8", ".m3u")
"""File name suffixes of the playlists that can be written."""

_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
"""What a line must not contain: control characters, ends of lines, changes of the writing direction, broken text."""


@dataclass(frozen=True)
class PlaylistTrack:
    """A line of a playlist, with what players show of it.

    Attributes
    ----------
    path : str
        See `playlist_path`.
    name : str
        Artist and title.
    seconds : float
        Length of the track; NaN if it is not known.
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
            # VLC looks for options after "#" and spaces: a word of ours comes before any title.
            lines.append(f"# mirembed: {_on_a_line(track.comment)}")
        seconds = -1 if math.isnan(track.seconds) else round(track.seconds)
        lines += [f"#EXTINF:{seconds},{_on_a_line(track.name)}", track.path]
    return "\n".join(lines) + "\n"


def playlist_path(path: Path, folder: Path | None = None) -> str | None:
    r"""Return the line of a playlist that names a file; None if no line can.

    A line is text in UTF-8 and ends with the name: names with a line break, or with bytes that are not UTF-8, do not fit.
    A relative path that would be taken for a comment or an address, or whose first space players remove, begins with
    ``./``.

    Parameters
    ----------
    path : pathlib.Path
        The file, absolute.
    folder : pathlib.Path or None
        The path becomes relative to this folder; None: it stays absolute.

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


def check_playlist_suffix(path: Path) -> None:
    """Refuse an output file that is not named as a playlist.

    Raises
    ------
    SpecError
    """
    if path.suffix.lower() not in PLAYLIST_SUFFIXES:
        raise SpecError(f"--out {path}: expected a file name ending in {' or '.join(PLAYLIST_SUFFIXES)}")


def _relative(path: Path, folder: Path) -> str:
    """Return a path relative to a folder that leads there for programs that follow links, too, if that is possible.

    Some programs remove ``..`` together with the name before it; the system follows a link first.
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
