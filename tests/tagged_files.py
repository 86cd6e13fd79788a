"""Small audio files with tags, one of each container, for tests. Tests write the tags with mutagen."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from audio_files import mp4_bytes
from mutagen.aiff import AIFF
from mutagen.apev2 import APEv2
from mutagen.asf import ASF
from mutagen.flac import FLAC
from mutagen.id3 import ID3
from mutagen.mp4 import MP4
from mutagen.ogg import OggPage
from mutagen.oggopus import OggOpus
from mutagen.oggspeex import OggSpeex
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE

FORMATS = {".ogg": "VORBIS", ".opus": "OPUS"}
TYPES: dict[str, Callable[..., Any]] = {
    ".aiff": AIFF,
    ".ape": APEv2,
    ".flac": FLAC,
    ".m4a": MP4,
    ".mp3": ID3,
    ".ogg": OggVorbis,
    ".opus": OggOpus,
    ".spx": OggSpeex,
    ".wav": WAVE,
    ".wma": ASF,
}
"""mutagen's type of each container, by suffix."""


def write_sound(path: Path, seconds: float = 0.1, pitch: float = 440.0) -> Path:
    """Write a tone without tags in the container that the suffix names; of .ape, .spx and .wma only the headers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_sound(path.suffix, seconds, pitch))
    return path


def tagged(path: Path, **values: Any) -> Path:
    """Write a tone whose Vorbis comments, APEv2 items, ID3 frames, MP4 atoms or ASF attributes are ``values``.

    Values of ID3 are frames; their names do not matter.
    """
    write_sound(path)
    if path.suffix == ".mp3":
        tags = ID3()
        for frame in values.values():
            tags.add(frame)
        tags.save(path)
        return path
    tags = APEv2() if path.suffix == ".ape" else TYPES[path.suffix](path)
    if getattr(tags, "tags", tags) is None:
        tags.add_tags()
    for name, value in values.items():
        if path.suffix in (".wav", ".aiff"):
            tags.tags.add(value)
        else:
            tags[name] = value
    tags.save(path)
    return path


@functools.cache
def _sound(suffix: str, seconds: float, pitch: float) -> bytes:
    import tempfile

    rate = 48_000
    samples = 0.1 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)
    if suffix == ".ape":
        return b"MAC \x96\x0f" + bytes(100)
    if suffix == ".spx":
        return _speex()
    if suffix == ".wma":
        return _windows_media()
    if suffix == ".m4a":
        return mp4_bytes(_sound(".mp3", seconds, pitch), rate)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"tone{suffix}")
        container = {".ogg": "OGG", ".opus": "OGG", ".mp3": "MP3"}.get(suffix)
        soundfile.write(path, samples, rate, format=container, subtype=FORMATS.get(suffix))
        return path.read_bytes()


def _speex() -> bytes:
    header = (
        b"Speex   "
        + b"1.2".ljust(20, b"\0")
        + b"".join(value.to_bytes(4, "little") for value in (1, 80, 16_000, 1, 4, 1, 16_000, 320, 0, 1, 0, 0, 0))
    )
    comment = (4).to_bytes(4, "little") + b"test" + bytes(4)
    pages = []
    for number, packet in enumerate((header, comment, bytes(40))):
        page = OggPage()
        page.packets, page.sequence, page.serial, page.first = [packet], number, 7, number == 0
        page.position, page.last = 320 * (number == 2), number == 2
        pages.append(page.write())
    return b"".join(pages)


def _windows_media() -> bytes:
    """Return the header of an ASF file with one object, which describes the file."""
    properties = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365") + (104).to_bytes(8, "little") + bytes(80)
    header = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
    return header + (30 + len(properties)).to_bytes(8, "little") + (1).to_bytes(4, "little") + b"\1\2" + properties
