"""Sounds and audio files for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from mirembed import SamplesAudio
from mirembed.audio.decoding import read_recording
from mirembed_features.logmel import LogMel


def music(seconds: float, rate: int) -> np.ndarray:
    """Return two chords with silence between them: the same signal at every rate, with nothing above 6 kHz."""
    time = np.arange(round(seconds * rate)) / rate
    pitches = [110 * 2 ** (step / 12) for step in (0, 4, 7, 12, 24, 31, 38, 50, 62, 68)]
    chord = sum(np.sin(2 * np.pi * pitch * time + pitch) / (1 + pitch / 500) for pitch in pitches)
    envelope = np.clip(np.sin(2 * np.pi * time / seconds) ** 2 - 0.3, 0, None)
    return 0.1 * chord * envelope


def loud_then_quiet(seconds: float, rate: int) -> np.ndarray:
    """Return noise that needs a high bit rate, then one that needs hardly any: stereo ``[n_samples, 2]``."""
    noise = np.random.default_rng(5).standard_normal((round(seconds * rate), 2))
    noise[rate:] *= 1e-4
    return 0.1 * noise


def write_mp3(
    path: Path, samples: np.ndarray, rate: int, mode: Literal["CONSTANT", "VARIABLE"], *, header: bool = True
) -> Path:
    """Write an MP3. Without its header, a first frame named Info or Xing, nothing in it states a length."""
    soundfile.write(path, samples, rate, format="MP3", bitrate_mode=mode, compression_level=0.5)
    data = path.read_bytes()
    assert b"Info" in data[:64] or b"Xing" in data[:64]
    if not header:
        path.write_bytes(data[data.index(data[:2], 4) :])
    return path


def wav_bytes(data: bytes, *, tag: int = 1, rate: int = 16_000, stated: int | None = None) -> bytes:
    """Return a mono 16-bit WAV file whose header names any codec and states any data size."""
    fmt = tag.to_bytes(2, "little") + (1).to_bytes(2, "little") + rate.to_bytes(4, "little")
    fmt += (2 * rate).to_bytes(4, "little") + (2).to_bytes(2, "little") + (16).to_bytes(2, "little")
    size = len(data) if stated is None else stated
    chunks = b"fmt " + len(fmt).to_bytes(4, "little") + fmt + b"data" + size.to_bytes(4, "little") + data
    return b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WAVE" + chunks


def flash_bytes(mp3: bytes) -> bytes:
    """Return an FLV file with one tag of 44.1-kHz audio: a container that only Essentia opens."""
    body = b"\x2f" + mp3
    tag = b"\x08" + len(body).to_bytes(3, "big") + bytes(7) + body
    return b"FLV\x01\x04" + (9).to_bytes(4, "big") + bytes(4) + tag + len(tag).to_bytes(4, "big")


def mp4_bytes(mp3: bytes, rate: int, edits: Sequence[tuple[int, int]] = (), n_tracks: int = 1) -> bytes:
    """Return an MP4 (M4A) file with the frames of a constant-bit-rate MP3: a container that soundfile cannot open.

    ``edits`` is an edit list: lengths and beginnings in samples.
    """
    samples = 1152
    starts = [at for at in range(len(mp3) - 4) if mp3[at : at + 2] == mp3[:2] and mp3[at + 3] & 0xC0 == mp3[3] & 0xC0]
    sizes = [end - start for start, end in zip(starts, [*starts[1:], len(mp3)], strict=True)]
    length = len(sizes) * samples

    def box(name: bytes, *content: bytes) -> bytes:
        body = b"".join(content)
        return (8 + len(body)).to_bytes(4, "big") + name + body

    def words(*values: int) -> bytes:
        return b"".join(value.to_bytes(4, "big") for value in values)

    matrix = words(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    # The decoder's description: object type 0x6B is MPEG-1 audio.
    decoder = b"\x04\x0d\x6b\x15" + bytes(11)
    description = words(0) + b"\x03" + bytes([3 + len(decoder) + 3]) + b"\0\1\0" + decoder + b"\x06\x01\x02"
    entry = box(
        b"mp4a", bytes(6) + b"\0\1" + bytes(8) + b"\0\2\0\x10" + bytes(4), words(rate << 16), box(b"esds", description)
    )
    tables = [
        box(b"stsd", words(0, 1), entry),
        box(b"stts", words(0, 1, len(sizes), samples)),
        box(b"stsc", words(0, 1, 1, len(sizes), 1)),
        box(b"stsz", words(0, 0, len(sizes), *sizes)),
    ]
    kind = box(b"ftyp", b"M4A ", words(0), b"M4A mp42isom")

    def movie(offset: int) -> bytes:
        table = box(b"stbl", *tables, box(b"stco", words(0, 1, offset)))
        place = box(b"dinf", box(b"dref", words(0, 1), box(b"url ", words(1))))
        media = box(
            b"mdia",
            box(b"mdhd", words(0, 0, 0, rate, length), b"\x55\xc4\0\0"),
            box(b"hdlr", words(0, 0), b"soun", bytes(13)),
            box(b"minf", box(b"smhd", bytes(8)), place, table),
        )
        track = box(b"tkhd", words(7, 0, 0, 1, 0, length), bytes(8), b"\0\0\0\0\1\0\0\0", matrix, bytes(8))
        head = box(b"mvhd", words(0, 0, 0, rate, length, 0x10000), b"\1\0", bytes(10), matrix, bytes(24), words(2))
        entries = [words(length, begin, 0x10000) for length, begin in edits]
        listed = [box(b"edts", box(b"elst", words(0, len(entries)), *entries))] if entries else []
        return box(b"moov", head, *[box(b"trak", track, *listed, media)] * n_tracks)

    return kind + movie(len(kind) + len(movie(0)) + 8) + box(b"mdat", mp3)


def log_mel(samples: np.ndarray, rate: int, **parameters: object) -> np.ndarray:
    """Return the spectrogram of samples by the features ``logmel``."""
    return LogMel(**parameters).extract(SamplesAudio(samples, rate))


def spectrogram(path: Path, **parameters: object) -> np.ndarray:
    """Return the spectrogram of a file by the features ``logmel``."""
    return read_recording(path, LogMel(**parameters).extract)[0]
