"""One audio file → samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mirembed.audio.by_essentia import decode_by_essentia
from mirembed.audio.by_soundfile import NotDecodedError, decode_by_soundfile
from mirembed.audio.essentia_algorithms import silenced
from mirembed.audio.headers import PADDING, Header, read_header
from mirembed.audio.tally import LONGEST, Decoder, R, Tally, require_bounded
from mirembed.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LONGEST", "Audio", "Sound", "decode", "decode_into"]


@dataclass(frozen=True)
class Sound:
    """What is known of a decoded file besides its samples.

    Attributes
    ----------
    rate : int
        Sampling rate in Hz, the file's own.
    n_samples : int
        Of each channel.
    audio_hash : str
        32 hexadecimal digits (BLAKE2b) of the samples of all channels, the rate and the number of channels:
        two files with the same sound have the same.
    decoder : {"soundfile", "essentia"}
    chatter : int
        Lines that native libraries wrote to the terminal while they decoded; they are not shown.
    """

    rate: int
    n_samples: int
    audio_hash: str
    decoder: Decoder
    chatter: int

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
    """Decode one file block by block, so that hours of music need no more memory than seconds.

    Essentia kills the process on an MP3 whose number of channels changes half way: decode files of unknown
    origin in a process that may be lost.

    Parameters
    ----------
    path : pathlib.Path
        A regular file.
    receiver : callable
        From the sampling rate in Hz to what takes the samples (`mirembed.audio.Receiver`). It may be called
        again, when a decoder turns out to have cut the file short; what was received before is to be forgotten.

    Returns
    -------
    receiver : Receiver
        The last that was made: it has all samples.
    sound : Sound

    Raises
    ------
    AudioError
        Not a regular file; not audio; damaged; shorter than its header states; longer than 12 hours; no samples,
        or samples that are NaN or infinite; or what the receiver raises. The message does not repeat the path.
    """
    _require_readable(path)
    with silenced() as chatter:
        try:
            header = read_header(path)
            require_bounded(header.stated)
            tally = _decode(path, header, receiver)
            audio_hash = tally.finish()
        except MemoryError as error:
            raise AudioError("the samples do not fit into memory: cut the file into pieces") from error
        except OSError as error:
            raise AudioError(f"cannot be read: {error.strerror or error}") from error
    if header.cut or tally.seconds < header.stated - PADDING:
        stated = f" of {header.stated:.1f} s stated" if header.stated else ", and the end of the file is missing"
        raise AudioError(f"truncated: {tally.seconds:.1f} s decoded{stated}; copy or download the file again")
    return tally.receiver, Sound(tally.rate, tally.n_samples, audio_hash, tally.decoder, chatter.lines)


def decode(path: Path) -> Audio:
    """Decode the whole of one file into memory.

    Raises
    ------
    AudioError
        See `decode_into`.
    """
    import numpy as np

    samples, sound = decode_into(path, _Samples)
    return Audio(
        sound.rate, sound.n_samples, sound.audio_hash, sound.decoder, sound.chatter, np.concatenate(samples.blocks)
    )


class _Samples:
    """Keeps all samples."""

    def __init__(self, rate: int) -> None:
        self.blocks: list[NDArray[np.float32]] = []

    def add(self, samples: NDArray[np.float32]) -> None:
        self.blocks.append(samples)


def _decode(path: Path, header: Header, receiver: Callable[[int], R]) -> Tally[R]:
    try:
        return decode_by_soundfile(path, header, receiver)
    except NotDecodedError as reason:
        return decode_by_essentia(path, header, receiver, str(reason))


def _require_readable(path: Path) -> None:
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
    except ValueError as error:  # a NUL in the name
        raise AudioError(f"cannot be read: {error}") from error
