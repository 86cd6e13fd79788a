"""Read and write single fields of the tags of an audio file, in the way of its container.

========== ======================== ==================== =====================
container  ``genre``                ``mood``             another ``NAME``
========== ======================== ==================== =====================
ID3v2.4    TCON                     TMOO                 TXXX:NAME
ID3v2.3    TCON                     TXXX:MOOD            TXXX:NAME
Vorbis     GENRE                    MOOD                 NAME
MP4        ©gen                     ----:...:MOOD        ----:...:NAME
ASF (WMA)  WM/Genre                 WM/Mood              NAME
APEv2      Genre                    Mood                 NAME
========== ======================== ==================== =====================

MP3, AIFF and WAV have ID3; Ogg and FLAC have Vorbis comments. ID3 keeps its version, except that v2.2, which no program
writes any more, becomes v2.3. New tags are ID3v2.4.
"""

from __future__ import annotations

import importlib
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mirembed.errors import AudioError, SpecError

GENRE, MOOD = "genre", "mood"

_FREE = "----:com.apple.iTunes:"
_ID3V1_BYTES = 128

_TAKEN = re.compile(
    "title|artists?|album|album ?_?artist|composer|lyricist|conductor|performer|date|year|originaldate|originalyear|"
    "track(number|total)?|disc(number|total)?|comment|description|lyrics|copyright|isrc|rating|bpm|"
    "musicbrainz.*|acoustid.*|replaygain.*",
    re.IGNORECASE,
)
"""Names of fields that have a meaning for other programs."""


def field_name(text: str) -> str:
    """Return the name of a field in a form that is valid in every container.

    >>> field_name("valence"), field_name("tempo (bpm)")
    ('VALENCE', 'TEMPO_BPM')

    Raises
    ------
    SpecError
        Nothing is left of the name, or the field has a meaning for other programs.
    """
    if text.lower() in (GENRE, MOOD):
        return text.lower()
    name = re.sub(r"[^A-Z0-9]+", "_", text.upper()).strip("_")[:40]
    if len(name) < 2:
        raise SpecError(f"{text!r} is not the name of a field; expected genre, mood, or 2 to 40 letters and digits")
    if _TAKEN.fullmatch(text) or _TAKEN.fullmatch(name):
        raise SpecError(f"players use the field {text} for something else; choose another name, such as MY_{name}")
    return name


class TagFields:
    """The file tags of one file.

    Parameters
    ----------
    path : pathlib.Path

    Raises
    ------
    AudioError
        The file cannot have tags, or its tags are damaged. The message does not repeat the path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = _open(path)
        except AudioError:
            raise
        # Damaged tags make mutagen raise almost anything.
        except Exception as error:
            raise AudioError(f"its file tags cannot be read ({error or type(error).__name__})") from error

    def get(self, name: str) -> list[str]:
        """Return the values of a field, named as by `field_name`; empty if the file does not have it."""
        return self._file.get(name)

    def write(self, values: Mapping[str, Sequence[str]]) -> None:
        """Write fields into the file, in place; a field without values is removed. The other tags do not change.

        Raises
        ------
        AudioError
            The tags cannot be written.
        OSError
            The file cannot be written.
        """
        try:
            for name, texts in values.items():
                self._file.set(name, list(texts))
            self._file.save()
        except Exception as error:
            for cause in (error, error.__cause__, error.__context__):  # mutagen wraps the system's errors
                if isinstance(cause, OSError):
                    raise cause from error
            raise AudioError(f"its file tags cannot be written ({error or type(error).__name__})") from error


def _open(path: Path) -> _Id3 | _Named:
    import mutagen

    with path.open("rb") as opened:
        found: Any = mutagen.File(opened)
    kind = type(found).__name__
    if kind in ("WAVE", "AIFF"):
        _require_whole_chunks(path, "<" if kind == "WAVE" else ">")
    if kind in ("MP3", "WAVE", "AIFF", "TrueAudio", "DSF"):
        return _Id3(path, found)
    if found is None or kind not in _KEYS:
        raise AudioError("its format cannot be tagged; expected MP3, FLAC, Ogg, MP4, WMA, WAV, AIFF or APE")
    if found.tags is None:
        found.add_tags()
    return _Named(path, found, kind)


def _require_whole_chunks(path: Path, order: str) -> None:
    """Refuse a RIFF or AIFF file whose size is not the stated one: a chunk after its end might be read as samples.

    Raises
    ------
    AudioError
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        _, stated = struct.unpack(f"{order}4sI", file.read(8))
        end = 12
        while end + 8 <= size:
            file.seek(end)
            _, length = struct.unpack(f"{order}4sI", file.read(8))
            end += 8 + length + length % 2
    for found, what in ((stated + 8, "header states"), (end, "chunks take")):
        if found != size:
            raise AudioError(f"its {what} {found} bytes, but the file has {size}; convert it, for example to FLAC")


class _Id3:
    """ID3 in its own version: by default, mutagen would convert frames of v2.3 to those of v2.4."""

    def __init__(self, path: Path, file: Any) -> None:
        id3: Any = importlib.import_module("mutagen.id3")
        kind = type(file.tags) if file.tags is not None else None
        if kind is None:
            file.add_tags()
            kind = type(file.tags)
        self._path = path
        try:
            self._tags = kind(str(path), translate=False)
        except id3.ID3NoHeaderError:
            self._tags = kind()
        self._version = 4
        if self._tags.version[:2] == (2, 3):
            self._version = 3
        elif self._tags.version[:2] == (2, 2):
            self._tags = kind(str(path))
            self._tags.update_to_v23()
            self._version = 3

    def get(self, name: str) -> list[str]:
        return [str(text) for frame in self._frames(name) for text in frame.text]

    def set(self, name: str, values: list[str]) -> None:
        id3: Any = importlib.import_module("mutagen.id3")
        before = self._frames(name)
        for frame in before:
            del self._tags[frame.HashKey]
        if not values:
            return
        texts = values if self._version == 4 else ["/".join(values)]
        if name == GENRE:
            self._tags.add(id3.TCON(encoding=3, text=texts))
        elif name == MOOD and self._version == 4:
            self._tags.add(id3.TMOO(encoding=3, text=texts))
        else:
            described = next((frame.desc for frame in before if frame.FrameID == "TXXX"), name.upper())
            self._tags.add(id3.TXXX(encoding=3, desc=described, text=texts))

    def save(self) -> None:
        id3: Any = importlib.import_module("mutagen.id3")
        # Several values stay separate in ID3v2.3, too, where mutagen would join them.
        options: dict[str, Any] = {"v2_version": self._version, "v23_sep": None}
        if type(self._tags) is not id3.ID3:
            self._tags.save(str(self._path), **options)
            return
        old = _id3v1(self._path)
        self._tags.save(str(self._path), **options)
        if old and len(_id3v1(self._path)) == len(old):
            with self._path.open("r+b") as file:  # mutagen rewrites it, in one encoding only
                file.seek(-_ID3V1_BYTES, 2)
                file.write(old)

    def _frames(self, name: str) -> list[Any]:
        """Return the frames that hold a field."""
        frame_id = {GENRE: "TCON", MOOD: "TMOO"}.get(name)
        return [
            frame
            for frame in self._tags.values()
            if frame.FrameID == frame_id or (frame.FrameID == "TXXX" and frame.desc.upper() == name.upper())
        ]


def _id3v1(path: Path) -> bytes:
    """Return the ID3v1 tag at the end of a file; empty if there is none."""
    with path.open("rb") as file:
        if file.seek(0, 2) < _ID3V1_BYTES:
            return b""
        file.seek(-_ID3V1_BYTES, 2)
        end = file.read()
    return end if end.startswith(b"TAG") else b""


_VORBIS = {GENRE: "GENRE", MOOD: "MOOD"}
_APE = {GENRE: "Genre", MOOD: "Mood"}
_MP4 = {GENRE: "\xa9gen", MOOD: f"{_FREE}MOOD"}
_ASF = {GENRE: "WM/Genre", MOOD: "WM/Mood"}
_KEYS = {
    **dict.fromkeys(("FLAC", "OggVorbis", "OggOpus", "OggSpeex", "OggFLAC"), _VORBIS),
    **dict.fromkeys(("MonkeysAudio", "Musepack", "WavPack", "OptimFROG", "TAK"), _APE),
    "MP4": _MP4,
    "ASF": _ASF,
}
"""Keys of the fields, by mutagen's name for the container."""


class _Named:
    """Tags whose fields have names."""

    def __init__(self, path: Path, file: Any, kind: str) -> None:
        self._path, self._file, self._kind = path, file, kind

    def get(self, name: str) -> list[str]:
        if (key := self._key(name)) is None:
            return []
        values = self._file.tags[key]
        texts = [values] if isinstance(values, str) else list(values)
        return [text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text) for text in texts]

    def set(self, name: str, values: list[str]) -> None:
        key = self._key(name)
        if not values:
            if key is not None:
                del self._file.tags[key]
            return
        key = key or self._new_key(name)
        if self._kind == "MP4" and key.startswith("----"):
            mp4: Any = importlib.import_module("mutagen.mp4")
            self._file.tags[key] = [mp4.MP4FreeForm(value.encode(), mp4.AtomDataType.UTF8) for value in values]
        else:
            self._file.tags[key] = values

    def save(self) -> None:
        self._file.save(str(self._path))

    def _new_key(self, name: str) -> str:
        return _KEYS[self._kind].get(name, f"{_FREE}{name}" if self._kind == "MP4" else name)

    def _key(self, name: str) -> str | None:
        """Return the key of a field as the file has it, whatever its case."""
        wanted = self._new_key(name).lower()
        keys = self._file.tags.keys()
        return next((str(key) for key in keys if str(key).lower() == wanted), None)
