"""Decode one audio file block by block, with soundfile, or with Essentia where soundfile fails or may cut it short."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.by_essentia import decode_by_essentia
from mirembed.audio.decode_state import BLOCK_VALUES, Decoder, DecodeState, R, require_bounded, silenced
from mirembed.audio.files import PADDING, Header, read_header
from mirembed.errors import AudioError


@dataclass(frozen=True)
class Sound:
    """Facts about a decoded file, without its samples.

    Attributes
    ----------
    rate : int
        Sampling rate of the file in Hz.
    n_samples : int
        Per channel.
    audio_hash : str
        32 hexadecimal digits (BLAKE2b) of the samples of all channels, the rate and the number of channels: files
        with the same sound have the same hash.
    decoder : {"soundfile", "essentia"}
    decoder_messages : int
        Number of lines that native libraries wrote to the terminal while decoding; they are not shown.
    """

    rate: int
    n_samples: int
    audio_hash: str
    decoder: Decoder
    decoder_messages: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.n_samples / self.rate


@dataclass(frozen=True)
class Audio(Sound):
    """The decoded samples of one file.

    Attributes
    ----------
    samples : ndarray [n_samples], float32
        Mean of the channels; full scale is 1.
    """

    samples: NDArray[np.float32]


def decode_into(path: Path, receiver: Callable[[int], R]) -> tuple[R, Sound]:
    """Decode one file block by block: hours of music need no more memory than seconds.

    Essentia crashes the process on an MP3 whose number of channels changes midway. Decode files of unknown origin in
    a process that you can afford to lose.

    Parameters
    ----------
    path : pathlib.Path
        A regular file.
    receiver : callable
        Called with the sampling rate in Hz, it makes a `mirembed.audio.decode_state.Receiver`. It is called again
        when a decoder turns out to have cut the file short; forget what the first receiver got.

    Returns
    -------
    receiver : Receiver
        The last one made, which got all samples.
    sound : Sound

    Raises
    ------
    AudioError
        Not a regular file; not audio; damaged; shorter than its header states; longer than 12 hours; no samples, or
        samples that are NaN or infinite; or what the receiver raises. The message does not repeat the path.
    """
    _require_readable(path)
    with silenced() as output:
        try:
            header = read_header(path)
            require_bounded(header.stated)
            try:
                state = _decode_by_soundfile(path, header, receiver)
            except _NotDecodedError as reason:
                state = decode_by_essentia(path, header, receiver, str(reason))
            audio_hash = state.finish()
        except MemoryError as error:
            raise AudioError("the samples do not fit in memory; split the file") from error
        except OSError as error:
            raise AudioError(f"cannot be read: {error.strerror or error}") from error
    if header.cut or state.seconds < header.stated - PADDING:
        stated = f" of {header.stated:.1f} s" if header.stated else ", and the end of the file is missing"
        raise AudioError(f"truncated: decoded {state.seconds:.1f} s{stated}; copy or download the file again")
    return state.receiver, Sound(state.rate, state.n_samples, audio_hash, state.decoder, len(output))


def decode(path: Path) -> Audio:
    """Decode a whole file into memory.

    Raises
    ------
    AudioError
        See `decode_into`.
    """
    samples, sound = decode_into(path, _Samples)
    return Audio(**vars(sound), samples=np.concatenate(samples.blocks))


class _Samples:
    """Keeps all samples."""

    def __init__(self, rate: int) -> None:
        self.blocks: list[NDArray[np.float32]] = []

    def add(self, samples: NDArray[np.float32]) -> None:
        self.blocks.append(samples)


def _require_readable(path: Path) -> None:
    try:
        path.stat()
        # Checked before the file is opened, because opening a FIFO waits for a writer.
        if not path.is_file():
            kind = "a directory" if path.is_dir() else "a pipe, socket or device"
            raise AudioError(f"{kind}, not an audio file")
        with path.open("rb") as file:
            if not file.read(1):
                raise AudioError("empty file (0 bytes); copy or download it again")
    except OSError as error:
        raise AudioError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL in the name
        raise AudioError(f"cannot be read: {error}") from error


class _NotDecodedError(Exception):
    """soundfile cannot decode a file, or not to its end; another decoder might. The message says why."""


def _decode_by_soundfile(path: Path, header: Header, receiver: Callable[[int], R]) -> DecodeState[R]:
    import soundfile

    try:
        opened = soundfile.SoundFile(os.fsencode(path))
    # The last two are raised for a suffix (.raw) that soundfile takes for samples without a header.
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        reason = str(getattr(error, "error_string", None) or "unknown format")
        raise _NotDecodedError(reason.rstrip(".")) from error
    with opened as file:
        # soundfile would seek after each block, to where it already is; in a FLAC that states no length this fails.
        file.seekable = lambda: False
        is_mpeg = file.subtype.startswith("MPEG")
        n_stated = file.frames
        unstated = n_stated == 2**63 - 1  # as in a FLAC that was written to a pipe
        if not is_mpeg and not unstated:  # for MPEG it may be an estimate
            require_bounded(n_stated / file.samplerate)
        state = DecodeState(receiver, file.samplerate, file.channels, "soundfile")
        length = max(1, BLOCK_VALUES // file.channels)
        try:
            while len(block := file.read(length, dtype="float32", always_2d=True)):
                state.add(block)
        except soundfile.SoundFileError as error:
            if is_mpeg:
                raise _NotDecodedError(f"damaged: {error}") from error
            raise AudioError(f"damaged or truncated ({error}); copy or download it again") from error
    if is_mpeg and not _is_whole(state, n_stated, header):
        raise _NotDecodedError(f"possibly cut short at {state.seconds:.1f} s")
    return state


def _is_whole(state: DecodeState[Any], limit: int, header: Header) -> bool:
    """Whether libsndfile is certain to have decoded an MPEG file to its end.

    It stops at the first stretch of junk, and at ``limit`` samples: the number in the Xing or Info header or, without
    one, an estimate, the file's size over the size of the first frame. So damaged, variable-bit-rate and concatenated
    files are cut without an error. Two lengths must agree with the decoded one: the header's, and that of all the
    file's bytes at the header's bit rate. Without a header there is only the second, which is as wrong as the estimate
    when the bit rate varies; then the decoder must also have reached the end below its limit. In ordinary files of
    constant bit rate it does, because the estimate rounds the frame size down and counts the tags as music.
    """
    lengths = [header.by_size, header.stated or header.by_size]
    agree = all(abs(state.seconds - length) <= PADDING for length in lengths)
    return agree and (header.stated > 0 or state.n_samples < limit)
