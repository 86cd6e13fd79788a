"""One audio file → samples, or one clear `AudioError`.

soundfile decodes what it can open, because it does not crash on damaged files; Essentia decodes the rest
(M4A, WMA) and the MP3s that libsndfile may have cut short.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import tempfile
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mirembed.errors import AudioError
from mirembed.essentia_algorithms import algorithm, silenced

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONGEST = 12 * 3600
"""Seconds. A file that states more is refused before it is decoded."""

PADDING = 0.25
"""Seconds by which a decoded and a stated length may differ: what encoders add before and after the music."""

Decoder = Literal["soundfile", "essentia"]


@dataclass(frozen=True)
class Audio:
    """The decoded samples of one file.

    Attributes
    ----------
    samples : ndarray [n_samples], float32
        Mean of the channels; full scale is 1.
    rate : int
        Sampling rate in Hz, the file's own.
    audio_hash : str
        32 hexadecimal digits (BLAKE2b) of the samples of all channels, the rate and the number of channels:
        two files with the same sound have the same.
    decoder : {"soundfile", "essentia"}
    chatter : int
        Lines that native libraries wrote to the terminal while they decoded; they are not shown.
    """

    samples: NDArray[np.float32]
    rate: int
    audio_hash: str
    decoder: Decoder
    chatter: int


@dataclass(frozen=True)
class _Header:
    """What a file says of itself, as mutagen reads it.

    ``stated`` is the length in seconds, 0 where none is stated. ``by_size`` is the length in seconds that all
    bytes of an MPEG file have at the bit rate of its header or, without one, of its first frame; otherwise 0.
    """

    stated: float = 0.0
    by_size: float = 0.0


@dataclass(frozen=True)
class _Decoded:
    channels: NDArray[np.float32]  # [n_samples, n_channels]
    rate: int
    decoder: Decoder

    @property
    def seconds(self) -> float:
        return len(self.channels) / self.rate


def decode(path: Path) -> Audio:
    """Decode the whole of one file.

    Essentia kills the process on an MP3 whose number of channels changes half way: decode files of unknown
    origin in a process that may be lost.

    Parameters
    ----------
    path : pathlib.Path
        A regular file.

    Returns
    -------
    Audio

    Raises
    ------
    AudioError
        Not a regular file; a name that is not valid UTF-8; not audio; damaged; shorter than its header states;
        longer than 12 hours; no samples, or samples that are NaN or infinite. The message does not repeat the path.
    """
    _require_readable(path)
    with silenced() as chatter:
        header = _header(path)
        _require_bounded(header.stated)
        try:
            decoded = _by_soundfile(path, header) or _by_essentia(path)
        except MemoryError as error:
            raise AudioError("the samples do not fit into memory: cut the file into pieces") from error
    if decoded.seconds < header.stated - PADDING:
        raise AudioError(
            f"truncated: {decoded.seconds:.1f} s decoded of {header.stated:.1f} s stated; "
            "copy or download the file again"
        )
    return Audio(_mono(decoded), decoded.rate, _audio_hash(decoded), decoded.decoder, chatter.lines)


def _require_readable(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise AudioError("its name is not valid UTF-8, and could not stand in a table: rename it") from error
    try:
        path.stat()
        # Asked before the file is opened, because opening a FIFO waits for a writer.
        if not path.is_file():
            kind = "a directory" if path.is_dir() else "a pipe, socket or device"
            raise AudioError(f"{kind}, where an audio file was expected")
        with path.open("rb") as file:
            if not file.read(1):
                raise AudioError("empty file (0 bytes): copy or download it again")
    except OSError as error:
        raise AudioError(f"cannot be read: {error.strerror}") from error


def _require_bounded(seconds: float) -> None:
    if seconds > LONGEST:
        raise AudioError(f"{seconds / 3600:.1f} hours long, at most {LONGEST // 3600} are read: cut it into pieces")


def _header(path: Path) -> _Header:
    import mutagen
    from mutagen.aac import AACInfo
    from mutagen.ac3 import AC3Info
    from mutagen.mp3 import BitrateMode, MPEGInfo
    from mutagen.wave import WaveStreamInfo

    info: Any = None
    # Damaged tags make mutagen raise almost anything. The sound may be sane: only the stated length is lost.
    with contextlib.suppress(Exception):
        info = getattr(mutagen.File(os.fsencode(path)), "info", None)
    match info:
        # No length, or a guess from the file's size.
        case None | AACInfo() | AC3Info():
            return _Header()
        case MPEGInfo():
            stated = 0.0 if info.bitrate_mode is BitrateMode.UNKNOWN else info.length
            return _Header(stated, 8 * (path.stat().st_size - info.frame_offset) / (info.bitrate or 1))
        # A program that writes to a pipe does not know the size yet, and states 2 or 4 GiB.
        case WaveStreamInfo() if info.length * info.bitrate / 8 > 2**31 - 2**16:
            return _Header()
    return _Header(info.length)


def _by_soundfile(path: Path, header: _Header) -> _Decoded | None:
    """Return None where Essentia has to try."""
    import soundfile

    try:
        file = soundfile.SoundFile(os.fsencode(path))
    # The other two are about an ending (.raw) that soundfile takes for samples without a header.
    except (soundfile.SoundFileError, TypeError, ValueError):
        return None
    with file:
        is_mpeg = file.subtype.startswith("MPEG")
        if file.frames == 2**63 - 1:  # not stated, as in a FLAC that was written to a pipe
            return None
        if not is_mpeg:  # where it may be an estimate
            _require_bounded(file.frames / file.samplerate)
        try:
            decoded = _Decoded(file.read(dtype="float32", always_2d=True), file.samplerate, "soundfile")
        except soundfile.SoundFileError as error:
            if is_mpeg:
                return None
            raise AudioError(f"damaged or truncated ({error}): copy or download it again") from error
        if is_mpeg and not _is_whole(decoded, file.frames, header):
            return None
        return decoded


def _is_whole(decoded: _Decoded, limit: int, header: _Header) -> bool:
    """Whether libsndfile surely decoded an MPEG file to its end.

    It stops at the first stretch of junk, and at ``limit`` samples: those that the Xing or Info header
    states or, without one, an estimate, the file's size over the size of the first frame. So damage,
    variable bit rates and files glued together are cut without an error. Two lengths must agree with the
    decoded one: the header's, and that of all the file's bytes at the header's bit rate. Without a header
    there is only the second, which is as wrong as the estimate when the bit rate varies: then the decoder
    must also have met the end below its limit. It does so in ordinary files of constant bit rate, for the
    estimate rounds the size of a frame down and counts the tags as music.
    """
    lengths = [header.by_size, header.stated or header.by_size]
    agree = all(abs(decoded.seconds - length) <= PADDING for length in lengths)
    return agree and (header.stated > 0 or len(decoded.channels) < limit)


def _by_essentia(path: Path) -> _Decoded:
    try:
        loader = _audio_loader()
        loader.__configure__(filename=str(path))
        samples, rate, n_channels, *_ = loader.__compute__()
    except RuntimeError as error:
        reason = str(error).rpartition("AudioLoader: ")[2]
        raise AudioError(
            f"neither soundfile nor Essentia can decode this file ({reason}): convert it to FLAC, or leave it out"
        ) from error
    # Mono comes as the left channel of two.
    return _Decoded(samples[:, :n_channels].copy(), int(rate), "essentia")


@functools.cache
def _audio_loader() -> Any:
    """Return the process's one AudioLoader, which has decoded a good file.

    An AudioLoader whose first configuration fails kills the process when it is destroyed; one that has run
    before raises an error and goes on working.
    """
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        with wave.open(file, "wb") as silence:
            silence.setparams((1, 2, 16_000, 0, "NONE", ""))
            silence.writeframes(bytes(3200))
        file.flush()
        loader = algorithm("AudioLoader", filename=file.name)
        loader.__compute__()
    return loader


def _mono(decoded: _Decoded) -> NDArray[np.float32]:
    import numpy as np

    n_samples, n_channels = decoded.channels.shape
    if not n_samples:
        raise AudioError("no samples: the file has a header and no sound")
    # Channel by channel: numpy's mean over an axis of length two is many times slower.
    mono: NDArray[np.float32] = decoded.channels[:, 0].copy()
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is an error below, not a warning
        for channel in range(1, n_channels):
            mono += decoded.channels[:, channel]
    mono /= n_channels
    if not np.isfinite(mono).all():
        n_bad = decoded.channels.size - np.count_nonzero(np.isfinite(decoded.channels))
        raise AudioError(f"{n_bad} of {decoded.channels.size} samples are NaN or infinite: export the file again")
    return mono


def _audio_hash(decoded: _Decoded) -> str:
    form = f"{decoded.rate} Hz, {decoded.channels.shape[1]} channels".encode()
    hasher = hashlib.blake2b(form, digest_size=16)
    hasher.update(decoded.channels.data.cast("B"))
    return hasher.hexdigest()
