"""Read the tags of audio files in any container: title, artists, album, genres, moods, year, rating."""

from __future__ import annotations

import bisect
import codecs
import contextlib
import functools
import importlib
import io
import re
import struct
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

from mirembed.interruption import interruptible

_Found: TypeAlias = dict[str, list[str]]
"""Texts as they are in a file, by field of `FileTags`."""


@dataclass(frozen=True)
class FileTags:
    """The tags of an audio file.

    Texts are in Unicode's normal form C, without surrounding white space, control characters and direction overrides.

    Attributes
    ----------
    title : str or None
    artists : tuple of str
        The artists of the track, main artist first.
    album, album_artist : str or None
    genres, moods : tuple of str
        Spelled as in the file, each once, whatever its case.
    year : int or None
        Of the release or recording.
    rating : float or None
        From 0 to 1: five stars are 1.
    track, disc : int or None
        Numbers on the album, from 1.
    """

    title: str | None = None
    artists: tuple[str, ...] = ()
    album: str | None = None
    album_artist: str | None = None
    genres: tuple[str, ...] = ()
    moods: tuple[str, ...] = ()
    year: int | None = None
    rating: float | None = None
    track: int | None = None
    disc: int | None = None

    @property
    def artist(self) -> str | None:
        """The first artist, or else the album artist."""
        return self.artists[0] if self.artists else self.album_artist


MAX_TEXT, MAX_VALUES = 1000, 100
"""The most characters of a text, and values of a field, that are kept."""

_MAX_FRAME = 2**16
"""The most bytes of a text in ID3. Texts may be compressed, and a large one could expand to gigabytes."""

_NAMES = {
    "title": "title",
    "artist": "artist",
    "artists": "artists",
    "album": "album",
    "albumartist": "album_artist",
    "album artist": "album_artist",
    "album_artist": "album_artist",
    "genre": "genre",
    "mood": "mood",
    "date": "year",
    "year": "year",
    "originaldate": "original_year",
    "originalyear": "original_year",
    "rating": "rating",
    "fmps_rating": "share",
    "tracknumber": "track",
    "track": "track",
    "discnumber": "disc",
    "disc": "disc",
}
"""Fields by the names of Vorbis comments, APEv2 items and free-form fields (ID3's TXXX, MP4's ``----``)."""

_ID3 = {
    "TIT2": "title",
    "TPE1": "artist",
    "TPE2": "album_artist",
    "TALB": "album",
    "TCON": "genre",
    "TMOO": "mood",
    "TDRC": "year",
    "TDRL": "original_year",
    "TDOR": "original_year",
    "TRCK": "track",
    "TPOS": "disc",
}
_ID3_OLD = ("TYER", "TORY", "TT2", "TP1", "TP2", "TAL", "TCO", "TYE", "TRK", "TPA", "TXX", "POP", "TOR")
"""Frames of ID3v2.3 and v2.2 that mutagen converts to those of v2.4."""

_MP4 = {
    "\xa9nam": "title",
    "\xa9ART": "artist",
    "aART": "album_artist",
    "\xa9alb": "album",
    "\xa9gen": "genre",
    "\xa9day": "year",
    "trkn": "track",
    "disk": "disc",
}
_ASF = {
    "title": "title",
    "author": "artist",
    "wm/albumartist": "album_artist",
    "wm/albumtitle": "album",
    "wm/genre": "genre",
    "wm/mood": "mood",
    "wm/year": "year",
    "wm/originalreleaseyear": "original_year",
    "wm/shareduserrating": "stars",
    "wm/tracknumber": "track",
    "wm/partofset": "disc",
}
_CHUNKS = {
    b"INAM": "title",
    b"IART": "artist",
    b"IPRD": "album",
    b"IGNR": "genre",
    b"ICRD": "year",
    b"ITRK": "track",
    b"IPRT": "track",
    b"NAME": "title",
    b"AUTH": "artist",
}
"""Fields by chunk, in the INFO list of RIFF and in AIFF."""

_MAX_CHUNKS, _MAX_CHUNK = 1000, 2**28
"""Limits, because a damaged file may claim millions of chunks, or gigabytes in one."""

_OGG = {
    b"\x01vorbis": ("mutagen.oggvorbis", "OggVorbis"),
    b"OpusHead": ("mutagen.oggopus", "OggOpus"),
    b"Speex   ": ("mutagen.oggspeex", "OggSpeex"),
    b"\x7fFLAC": ("mutagen.oggflac", "OggFLAC"),
}
"""Classes of mutagen by the first bytes of the first packet of an Ogg file."""

_STARS = (0.2, 0.4, 0.6, 0.8, 1.0)
_POPULARIMETER = (1, 64, 128, 196, 255)
_WINDOWS_MEDIA = (1, 25, 50, 75, 99)
"""What players write for one to five stars, in ID3 (POPM) and Windows Media."""


@interruptible()
def read_file_tags(path: Path) -> FileTags:
    """Read the file tags of an audio file.

    Reads ID3 (v1, v2.2, v2.3 and v2.4, also in WAV and AIFF), Vorbis comments (FLAC, Ogg, Opus, Speex), MP4, APEv2,
    Windows Media and the INFO list of WAV. If a file has several kinds of tags, each field comes from the first kind
    that has it. Latin-1 texts that contain UTF-8 or Windows-1251 are decoded as such.

    Returns
    -------
    FileTags
        Empty if the file has no tags, or if they or the file cannot be read.
    """
    found: dict[str, list[str]] = {}
    # Damaged tags make mutagen raise almost anything.
    with contextlib.suppress(Exception):
        if path.is_file():  # opening a pipe would wait forever
            with path.open("rb") as file:
                for source in _sources(file):
                    for name, texts in source.items():
                        if cleaned := [text for one in texts[:MAX_VALUES] if (text := _clean(one))]:
                            found.setdefault(name, cleaned)
    return _file_tags(found)


def _file_tags(found: _Found) -> FileTags:
    years = (year for name in ("year", "original_year") for text in found.get(name, ()) if (year := _year(text)))
    scales = {"share": _share, "stars": lambda text: _of_stars(text, _WINDOWS_MEDIA), "rating": _rating}
    ratings = (value for name, read in scales.items() for text in found.get(name, ()) if (value := read(text)))
    return FileTags(
        title=_first(found.get("title")),
        artists=_distinct(part for text in found.get("artists") or found.get("artist", []) for part in _artists(text)),
        album=_first(found.get("album")),
        album_artist=_first(found.get("album_artist")),
        genres=_distinct(part for text in found.get("genre", []) for part in _parts(text)),
        moods=_distinct(part for text in found.get("mood", []) for part in _parts(text)),
        year=next(years, None),
        rating=next(ratings, None),
        track=_number(_first(found.get("track"))),
        disc=_number(_first(found.get("disc"))),
    )


def _sources(file: IO[bytes]) -> Iterator[_Found]:
    """Yield the texts of each kind of tags in a file, the most reliable first."""
    head = file.read(64)
    kind = _mutagen_class(file, head)
    if kind is not None:
        loaded = kind.__new__(kind)  # its constructor would lose the tags if anything after them is damaged
        file.seek(0)
        with contextlib.suppress(Exception):  # what was read before the damage is used
            loaded.load(file)
        if loaded.tags is not None:
            yield _of_mutagen(loaded.tags)
    elif head[:4] in (b"RIFF", b"RF64"):
        yield from _of_chunks(file, "<")
    elif head[:4] == b"FORM":
        yield from _of_chunks(file, ">")
    file.seek(0)
    with contextlib.suppress(Exception):
        yield _id3(file)
    file.seek(0)
    with contextlib.suppress(Exception):
        apev2: Any = importlib.import_module("mutagen.apev2")
        yield _of_mutagen(apev2.APEv2(file))


def _mutagen_class(file: IO[bytes], head: bytes) -> Any:
    """Return the class of mutagen for a container; None for containers whose tags are read without one."""
    start = head
    if head[:3] == b"ID3" and len(head) >= 10:  # some programs put ID3 before FLAC
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        file.seek(10 + size)
        start = file.read(4)
    name = None
    if start[:4] == b"fLaC":
        name = ("mutagen.flac", "FLAC")
    elif head[:4] == b"OggS":
        name = next((known for magic, known in _OGG.items() if magic in head), None)
    elif head[4:8] == b"ftyp":
        name = ("mutagen.mp4", "MP4")
    elif head[:4] == b"\x30\x26\xb2\x75":
        name = ("mutagen.asf", "ASF")
    return None if name is None else getattr(importlib.import_module(name[0]), name[1])


def _of_mutagen(tags: Any) -> _Found:
    """Return the texts of mutagen's tags, of any kind except ID3."""
    found: _Found = {}
    for key in tags.keys():  # noqa: SIM118  (not every kind of tags is iterable)
        name = str(key)
        # MP4 calls a free-form field ----:com.apple.iTunes:MOOD.
        field = _MP4.get(name) or _ASF.get(name.lower()) or _NAMES.get(name.lower().rpartition(":")[2])
        if field is not None:
            value = tags[key]
            texts = [value] if isinstance(value, str) else list(value) if _is_list(value) else [str(value)]
            found.setdefault(field, []).extend(map(_plain, texts))
    return found


def _is_list(value: Any) -> bool:
    return hasattr(value, "__iter__") and not isinstance(value, bytes)


def _plain(value: Any) -> str:
    """Return a value of mutagen as text; it is a string, bytes, a pair (number, total), or an object with a text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value[0]) if isinstance(value, tuple) else str(value)


def _id3(file: IO[bytes]) -> _Found:
    """Return the texts of ID3 tags of any version, at the beginning and the end of a file."""
    id3: Any = importlib.import_module("mutagen.id3")
    return _of_frames(id3.ID3(file, known_frames=_known_frames()))


@functools.cache
def _known_frames() -> dict[str, Any]:
    """Return the classes of the frames to read, by name; others, such as pictures, are not decoded."""
    id3: Any = importlib.import_module("mutagen.id3")

    def bounded(kind: Any) -> Any:
        def from_data(_: Any, header: Any, flags: int, data: bytes) -> Any:
            if len(data) > _MAX_FRAME:
                raise NotImplementedError(f"{len(data)} bytes of text")  # mutagen skips to the next frame
            return kind._fromData.__func__(made, header, flags, data)

        made = type(kind.__name__, (kind,), {"_fromData": classmethod(from_data)})
        return made

    wanted = (*_ID3, *_ID3_OLD, "TXXX", "POPM")
    new = {name: bounded(kind) for name, kind in id3.Frames.items() if name in wanted}
    return new | {name: kind for name, kind in id3.Frames_2_2.items() if name in wanted}


def _of_frames(tags: Any) -> _Found:
    id3: Any = importlib.import_module("mutagen.id3")
    found: _Found = {}
    for frame in tags.values():
        kind = frame.FrameID
        if kind == "POPM":
            if (share := _of_stars(str(frame.rating), _POPULARIMETER)) is not None:
                found.setdefault("share", []).append(str(share))
            continue
        field = _NAMES.get(frame.desc.lower()) if kind == "TXXX" else _ID3.get(kind)
        if field is None:
            continue
        texts = [str(text) for text in frame.text]
        if frame.encoding == 0:
            texts = [_decoded(text) for text in texts]
        if kind == "TCON":  # numbers of genres, such as (17) or 17
            texts = id3.TCON(encoding=3, text=[part for text in texts for part in _parts(text)]).genres
            texts = [text for text in texts if text != "Unknown"]  # mutagen's name for a number without a genre
        found.setdefault(field, []).extend(texts)
    return found


def _of_chunks(file: IO[bytes], order: str) -> Iterator[_Found]:
    """Yield the texts of ID3, and then those of other chunks, in a RIFF (``<``) or AIFF file (``>``)."""
    others: _Found = {}
    file.seek(12)
    for name, content in _chunks(file, order, {b"id3 ", b"ID3 ", b"LIST", b"NAME", b"AUTH"}):
        if name.lower() == b"id3 ":
            with contextlib.suppress(Exception):
                yield _id3(io.BytesIO(content))
        elif name != b"LIST":
            others.setdefault(_CHUNKS[name], []).append(_latin1(content))
        elif content[:4] == b"INFO":
            for inner, text in _chunks(io.BytesIO(content[4:]), order, _CHUNKS.keys()):
                others.setdefault(_CHUNKS[inner], []).append(_latin1(text))
    yield others


def _chunks(file: IO[bytes], order: str, wanted: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the names and contents of the wanted chunks, from the current position of a file."""
    names = frozenset(wanted)
    for _ in range(_MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            return
        name, size = struct.unpack(f"{order}4sI", head)
        if name in names and size <= _MAX_CHUNK:
            yield name, file.read(size)
            file.seek(size % 2, io.SEEK_CUR)
        else:
            file.seek(size + size % 2, io.SEEK_CUR)


def _latin1(content: bytes) -> str:
    return _decoded(content.partition(b"\0")[0].decode("latin-1"))


_CYRILLIC = re.compile(r"(?<![A-Za-z])[\xa8\xb8\xc0-\xff]{3,}(?![A-Za-z])")
"""Words without ASCII letters, which is how Cyrillic words in Windows-1251 look in Latin-1."""


def _decoded(text: str) -> str:
    r"""Return a Latin-1 text in its real encoding: many programs write another one where only Latin-1 is allowed.

    >>> _decoded("Bj\xc3\xb6rk"), _decoded("\xca\xe8\xed\xee"), _decoded("Motörhead")
    ('Björk', 'Кино', 'Motörhead')
    """
    if text.isascii():
        return text
    content = text.encode("latin-1", "replace")
    with contextlib.suppress(UnicodeDecodeError):
        # An ID3v1 tag may end in the middle of a character.
        decoded = codecs.getincrementaldecoder("utf-8")().decode(content)
        if not decoded.isascii():
            return decoded
    if _CYRILLIC.search(text):
        return content.decode("cp1251", "replace")
    return content.decode("cp1252", "replace") if re.search("[\x80-\x9f]", text) else text


_BREAKS = re.compile("[\t-\r\x1c-\x1f\x85\u2028\u2029]+")
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]+")
"""Control characters, direction overrides, byte order marks, and halves of characters."""


def _clean(text: str) -> str:
    r"""Return a text as in `FileTags`; null characters, which separate values, stay.

    >>> _clean(" Cafe\u0301\n\x1b[31m ")
    'Café [31m'
    """
    pieces = text[: 10 * MAX_TEXT].split("\0")
    pieces = [_INVISIBLE.sub("", _BREAKS.sub(" ", piece))[:MAX_TEXT].strip() for piece in pieces]
    return "\0".join(unicodedata.normalize("NFC", piece).strip() for piece in pieces if piece)


def _first(texts: Iterable[str] | None) -> str | None:
    return next(iter(texts), "").partition("\0")[0] or None if texts else None


def _parts(text: str) -> list[str]:
    """Return the genres or moods in a text.

    >>> _parts("Hip-Hop/Rap; Folk, World, & Country")
    ['Hip-Hop', 'Rap', 'Folk', 'World', 'Country']
    """
    return [part for piece in re.split(r"[;/,|\\\0]", text) if (part := piece.strip().removeprefix("&").strip())]


def _artists(text: str) -> list[str]:
    """Return the artists in a text; a slash without spaces is part of a name.

    >>> _artists("AC/DC; Nina Simone / Sun Ra")
    ['AC/DC', 'Nina Simone', 'Sun Ra']
    """
    return [part for piece in re.split(r";| / |\0", text) if (part := piece.strip())]


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the first spelling of each text."""
    spelled: dict[str, str] = {}
    for text in texts:
        spelled.setdefault(text.casefold(), text)
    return tuple(spelled.values())


def _year(text: str) -> int | None:
    """Return the year of a date.

    >>> _year("1997-05-20"), _year("19970520"), _year("20/05/1997"), _year("97"), _year("0000")
    (1997, 1997, 1997, None, None)
    """
    found = re.match(r"([12]\d{3})(?:\D|\d{4}|$)", text, re.ASCII) or re.search(
        r"(?<!\d)([12]\d{3})(?!\d)", text, re.ASCII
    )
    return int(found[1]) if found else None


def _number(text: str | None) -> int | None:
    """Return the number of a track or disc, such as 3 of 12.

    >>> _number("03/12"), _number("A3"), _number("0")
    (3, None, None)
    """
    found = re.match(r"\d{1,4}(?!\d)", text or "", re.ASCII)
    return int(found[0]) or None if found else None


def _share(text: str) -> float | None:
    """Return a rating from 0 to 1; None for 0, which means that there is none."""
    found = re.fullmatch(r"[01](?:\.\d*)?", text, re.ASCII)
    return float(found[0]) or None if found and float(found[0]) <= 1 else None


def _rating(text: str) -> float | None:
    """Return a rating without a fixed scale: players write 0 to 1, stars, or 0 to 100.

    >>> _rating("0.8"), _rating("4"), _rating("80"), _rating("8"), _rating("0")
    (0.8, 0.8, 0.8, 0.8, None)
    """
    if "." in text and (share := _share(text)):
        return share
    found = re.fullmatch(r"\d{1,3}(?:\.\d+)?", text, re.ASCII)
    value = float(found[0]) if found else 0.0
    scale = 5 if value <= 5 else 10 if value < 10 else 100
    return value / scale if 0 < value <= 100 else _of_stars(text, _POPULARIMETER) if value > 100 else None


def _of_stars(text: str, scale: tuple[int, ...]) -> float | None:
    """Return a rating on a scale given by its values for one to five stars; None for 0, which means that there is none.

    >>> _of_stars("196", _POPULARIMETER), _of_stars("0", _POPULARIMETER)
    (0.8, None)
    """
    value = int(text) if re.fullmatch(r"\d{1,3}", text, re.ASCII) else 0
    if not 0 < value <= scale[-1]:
        return None
    stars = bisect.bisect_left(scale, value)
    if scale[stars] == value:
        return _STARS[stars]
    low, high = scale[stars - 1], scale[stars]
    return round(_STARS[stars - 1] + 0.2 * (value - low) / (high - low), 3)
