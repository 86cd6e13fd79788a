"""Read one audio file block by block, with soundfile, or with Essentia where soundfile fails or may cut it short."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.by_essentia import open_by_essentia
from mirembed.audio.decode_state import (
    BLOCK_VALUES,
    Decoder,
    DecodeState,
    OpenFile,
    has_silence,
    mix,
    require_bounded,
    silenced,
)
from mirembed.audio.headers import Header, Part, read_header
from mirembed.audio.parts import PartFile
from mirembed.audio.samples import resampled
from mirembed.errors import AudioError

KEPT_SAMPLES = 2**24
"""Samples that are kept so that a second reader need not decode them again: 64 MiB, or six minutes at 44.1 kHz."""

_ADVICE = "; the file is damaged or was cut: copy or download it again"
_SMALL_BLOCK = 256

_PCM_16 = np.float32(2**-15)
"""The step of 16-bit samples, as a fraction of full scale."""

_GUESS = 0.25
"""Seconds by which the length of an MP3 may differ from that at the bit rate of its first frame."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Sound:
    """Facts about a decoded file, without its samples.

    Attributes
    ----------
    rate : int
        Sampling rate of the file in Hz.
    channels : int
        As the decoder returned them.
    n_samples : int
        Per channel.
    audio_hash : str
        32 hexadecimal digits (BLAKE2b) of the samples of all channels, the rate and the number of channels: files
        with the same sound have the same hash.
    decoder : {"soundfile", "essentia"}
    decoder_messages : int
        Number of lines that native libraries wrote to the terminal while decoding; they are not shown.
    notes : tuple of str
        What a user should know of the file although it could be read.
    """

    rate: int
    channels: int
    n_samples: int
    audio_hash: str
    decoder: Decoder
    decoder_messages: int
    notes: tuple[str, ...] = field(kw_only=True)

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.n_samples / self.rate


@dataclass(frozen=True)
class DecodedFile(Sound):
    """The decoded samples of one file.

    Attributes
    ----------
    samples : ndarray [n_samples], float32
        Mean of the channels; full scale is 1.
    """

    samples: NDArray[np.float32]


def read_recording(
    path: Path, use: Callable[[FileAudio], Result], ids: tuple[str, ...] = (), *, keep: bool = False
) -> tuple[Result, Sound | None]:
    """Hand the audio of a file to a function, which reads it block by block.

    Hours of music need no more memory than seconds. What the function leaves unread is decoded after it, so that the
    whole file is checked and hashed; if it reads nothing, nothing is decoded.

    Decoders may crash the process on damaged files. Read files of unknown origin in a process that you can afford to
    lose.

    Parameters
    ----------
    path : pathlib.Path
        A regular file.
    use : callable
        Called with the audio. It is called again if soundfile turns out to have cut the file short; its first result is
        then discarded.
    ids : tuple of str
        The ids under which a dataset lists the file.
    keep : bool
        Keep samples that have been read, up to `KEPT_SAMPLES`, so that a second reader need not decode them again.

    Returns
    -------
    result
        What ``use`` returned.
    sound : Sound or None
        None if nothing was decoded.

    Raises
    ------
    AudioError
        Not a regular file; not audio; damaged; the header, the content and what was decoded differ in length; the
        sampling rate or the channels change midway; longer than 12 hours; no samples, or samples that are NaN or
        infinite. The message does not repeat the path.
    Exception
        Whatever ``use`` raises, unless the audio was at fault.
    """
    _require_readable(path)
    with contextlib.ExitStack() as stack:
        audio = FileAudio(path, ids, stack, KEPT_SAMPLES if keep else 0)
        try:
            return _use(audio, use)
        except _NotDecodedError as reason:
            return _use(audio.by_essentia(str(reason)), use)


def decode(path: Path) -> DecodedFile:
    """Decode a whole file into memory.

    Raises
    ------
    AudioError
        See `read_recording`.
    """
    samples, sound = read_recording(path, lambda audio: np.concatenate(list(audio.blocks())))
    assert sound is not None  # noqa: S101
    return DecodedFile(**vars(sound), samples=samples)


def _use(audio: FileAudio, use: Callable[[FileAudio], Result]) -> tuple[Result, Sound | None]:
    try:
        result = use(audio)
    except Exception:
        if audio.problem is not None:  # the result of the function does not count
            raise audio.problem from None
        raise
    return result, audio.finish()


class FileAudio:
    """The audio of one file, see `mirembed.Audio`.

    Parameters
    ----------
    path : pathlib.Path
    ids : tuple of str
    stack : contextlib.ExitStack
        Holds temporary files.
    keep : int
        The number of samples to keep for a second reader.

    Attributes
    ----------
    problem : AudioError or None
        What was wrong with the file, once it is known.
    n_reads : int
        How many times its blocks were read, from the beginning or in part.
    messages : int
        Lines that native libraries have written.
    """

    def __init__(self, path: Path, ids: tuple[str, ...], stack: contextlib.ExitStack, keep: int) -> None:
        self.path, self.ids = path, ids
        self.problem: AudioError | None = None
        self.n_reads = self.messages = 0
        self._stack, self._keep = stack, keep
        self._before = ""
        self._decoded: Iterator[NDArray[np.float32]] | None = None
        self._kept: list[NDArray[np.float32]] = []
        self._n_decoded = self._n_kept = 0
        self._sound: Sound | None = None

    def by_essentia(self, reason: str) -> FileAudio:
        """Return the same audio, to be decoded by Essentia, because soundfile failed or may have cut it short."""
        audio = FileAudio(self.path, self.ids, self._stack, self._keep)
        audio.messages, audio._before = self.messages, reason
        return audio

    @property
    def rate(self) -> int:
        """Sampling rate of the file in Hz."""
        return self._file.rate

    @property
    def channels(self) -> int:
        """Number of channels of the file."""
        return self._file.channels

    @property
    def duration(self) -> float:
        """Seconds that the header states or the file has room for; 0 if that is unknown."""
        return self._header.keep or max(0.0, self._header.longest - self._header.skip) or self._file.seconds

    def blocks(self, rate: int | None = None) -> Iterator[NDArray[np.float32]]:
        """Yield the samples in order; see `mirembed.Audio.blocks`."""
        return self._blocks() if rate is None else resampled(self._blocks(), self.rate, rate)

    def finish(self) -> Sound | None:
        """Decode the rest, if anything was decoded, and return the facts about the whole file.

        Raises
        ------
        AudioError
            See `read_recording`.
        """
        if self.problem is not None:
            raise self.problem
        if self._decoded is None:
            return None
        while self._next() is not None:
            pass
        return self._sound

    def _blocks(self) -> Iterator[NDArray[np.float32]]:
        self.n_reads += 1
        position = 0
        while True:
            if position < len(self._kept):
                block = self._kept[position]
            elif position < self._n_decoded:  # it was not kept
                yield from self._decoded_again(position)
                return
            elif (found := self._next()) is not None:
                block = found
            else:
                return
            yield block
            position += 1

    def _next(self) -> NDArray[np.float32] | None:
        """Decode the next block that nobody has read yet; return None at the end."""
        if self.problem is not None:
            raise self.problem
        if self._decoded is None:
            self._decoded = self._decode()
        block = next(self._decoded, None)
        if block is not None:
            self._n_decoded += 1
            self._n_kept += len(block)
            if self._n_kept <= self._keep:
                self._kept.append(block)
            else:
                self._kept.clear()
        return block

    def _decode(self) -> Iterator[NDArray[np.float32]]:
        """Decode the file, check it and hash it."""
        file, header = self._file, self._header
        found: list[int] = []
        state, blocks, suspect = DecodeState(file.rate, file.channels), self._heard(found), False
        while True:
            with self._guarded():
                block = next(blocks, None)
                if block is None:
                    break
                mono = state.add(block)
                suspect = suspect or (header.frame > 0 and has_silence(block, header.frame))
            if mono is not None:
                yield mono
        with self._guarded():
            decoded = sum(found) / file.rate
            if suspect:  # libFLAC puts silence in the place of missing frames
                header = header.counted(self.path)
            if wrong := header.disagreement(decoded):
                raise AudioError(header.counted(self.path).disagreement(decoded) or wrong)
            audio_hash = state.finish()
        notes = header.notes + state.notes
        self._sound = Sound(
            file.rate, file.channels, state.n_samples, audio_hash, file.decoder, self.messages, notes=notes
        )

    def _heard(self, found: list[int]) -> Iterator[NDArray[np.float32]]:
        """Decode the file without what is not to be heard: the delay of an encoder, what an edit list drops.

        The numbers of samples in the blocks as they were decoded are added to ``found``.
        """
        rate, start = self._file.rate, 0
        first = round(self._header.skip * rate)
        last = first + round(self._header.keep * rate) if self._header.keep else None
        for block in self._file.blocks():
            found.append(len(block))
            heard = block[max(0, first - start) : None if last is None else max(0, last - start)]
            start += len(block)
            if len(heard):
                yield heard

    def _decoded_again(self, first: int) -> Iterator[NDArray[np.float32]]:
        """Decode the file once more, from block number ``first`` on."""
        blocks = itertools.islice(self._heard([]), first, None)
        while True:
            with self._guarded():
                block = next(blocks, None)
            if block is None:
                return
            yield mix(block)

    @functools.cached_property
    def _header(self) -> Header:
        with self._guarded():
            header = read_header(self.path)
            require_bounded(header.longest, stated=not header.room)
            if header.refusal:
                raise AudioError(header.refusal)
        return header

    @functools.cached_property
    def _file(self) -> OpenFile:
        header = self._header
        with self._guarded():
            if not self._before:
                try:
                    return _open_by_soundfile(self.path, header)
                except _NotDecodedError as reason:
                    self._before = str(reason)
            try:
                return open_by_essentia(self.path, header, self._before, self._stack)
            except AudioError as error:
                # The bytes tell more than decoders that open nothing.
                if header.stated and header.room and header.disagreement(header.longest):
                    raise AudioError(header.counted(self.path).disagreement(0.0)) from error
                raise

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Run decoders: silence them, and remember what goes wrong, after which nothing is decoded."""
        if self.problem is not None:
            raise self.problem
        output: list[bytes] = []
        try:
            with silenced() as output:
                yield
        except AudioError as error:
            self.problem = error
            raise
        except MemoryError as error:
            self.problem = AudioError("the samples do not fit in memory; split the file")
            raise self.problem from error
        except OSError as error:
            self.problem = AudioError(f"cannot be read: {error.strerror or error}")
            raise self.problem from error
        finally:
            self.messages += len(output)


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


class _NotDecodedError(AudioError):
    """soundfile cannot decode a file, or not to its end; another decoder might. The message says why."""


def _open_by_soundfile(path: Path, header: Header) -> OpenFile:
    if header.kind.startswith("FLAC"):
        raise _NotDecodedError(f"it does not read {header.kind}")
    with _sound_file(path, header.parts[0] if header.parts else None) as file:
        is_mpeg = file.subtype.startswith("MPEG")
        # In MPEG, and in a FLAC that was written to a pipe, it is an estimate or unknown.
        seconds = 0.0 if is_mpeg or file.frames == 2**63 - 1 else file.frames / max(1, file.samplerate)
        if file.format == "RAW":  # libsndfile takes any content for samples if the suffix is .au, .snd or .vox
            raise _NotDecodedError("no header that it knows")
        if not header.room:
            require_bounded(seconds, stated=True)
        if is_mpeg and not header.mpeg:
            raise _NotDecodedError("not a series of MPEG frames")
        blocks = functools.partial(_blocks_by_soundfile, path, header)
        return OpenFile(file.samplerate, file.channels, seconds, "soundfile", blocks)


def _sound_file(path: Path, part: Part | None) -> Any:
    import soundfile

    try:
        file = soundfile.SoundFile(os.fsencode(path) if part is None else PartFile(path, part))
    # The last two are raised for a suffix (.raw) that soundfile takes for samples without a header.
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        reason = str(getattr(error, "error_string", None) or "unknown format")
        if "does not exist" in reason:  # said of a file that ends before the sound begins
            reason = "no sound found"
        raise _NotDecodedError(reason.rstrip(".")) from error
    # soundfile would seek after each block, to where it already is; in a FLAC that states no length this fails.
    file.seekable = lambda: False
    return file


def _blocks_by_soundfile(path: Path, header: Header) -> Iterator[NDArray[np.float32]]:
    """Yield blocks ``[n_samples, channels]``, each valid until the next, of one part of the file after the other."""
    import soundfile

    n_samples, rate = 0, 1
    for part in header.parts or (None,):
        n_before = n_samples
        with _sound_file(path, part) as file:
            rate = file.samplerate
            read = _reader(file)
            try:
                while len(block := read()):
                    n_samples += len(block)
                    yield block
            except soundfile.SoundFileError as error:
                if header.mpeg:
                    raise _NotDecodedError(f"damaged: {error}") from error
                wanted = max(0, round(header.stated * rate) - n_samples)
                rest = _up_to_error(path, part, n_samples - n_before, wanted)
                n_samples += len(rest)
                if header.disagreement(n_samples / rate) or not wanted or len(rest) < wanted:
                    reason = f"soundfile fails ({error}): {header.counted(path).lengths(n_samples / rate)}"
                    raise AudioError(reason + _ADVICE) from error
                yield rest  # only what follows the sound is not sound
    if header.mpeg and not _is_whole(header, n_samples / rate):
        raise _NotDecodedError(f"it may have stopped early, after {n_samples / rate:.1f} s")


def _reader(file: Any) -> Callable[[], NDArray[np.float32]]:
    """Return a function that reads the next block of an open file, ``[n_samples, channels]``; empty at the end."""
    shape = max(1, BLOCK_VALUES // file.channels), file.channels
    buffer = np.empty(shape, np.float32)
    if file.subtype != "PCM_16":
        return functools.partial(file.read, out=buffer)
    # libsndfile converts 4096 samples at a time, which takes three times as long.
    whole_numbers = np.empty(shape, np.int16)

    def read() -> NDArray[np.float32]:
        n_samples = len(file.read(out=whole_numbers))
        np.multiply(whole_numbers[:n_samples], _PCM_16, out=buffer[:n_samples])
        return buffer[:n_samples]

    return read


def _up_to_error(path: Path, part: Part | None, skip: int, wanted: int) -> NDArray[np.float32]:
    """Return the samples ``[n_samples, channels]`` of the block in which soundfile fails, up to there.

    They are read in small blocks, of which one ends after ``wanted`` samples.
    """
    import numpy as np
    import soundfile

    with _sound_file(path, part) as file:
        blocks = [np.empty((0, file.channels), np.float32)]
        file.read(skip, np.float32, always_2d=True)
        size = wanted % _SMALL_BLOCK or _SMALL_BLOCK
        with contextlib.suppress(soundfile.SoundFileError):
            while len(block := file.read(size, np.float32, always_2d=True)):
                blocks.append(block)
                size = _SMALL_BLOCK
        return np.concatenate(blocks)


def _is_whole(header: Header, seconds: float) -> bool:
    """Whether libsndfile has decoded an MPEG file to its end.

    It stops at the first stretch of junk, and at the length in the header or, without one, at an estimate by the first
    frame. Where the bit rate varies and no header tells the length, it is not asked, however right the estimate.
    """
    guessed = not header.stated and abs(header.by_bit_rate - seconds) > _GUESS
    return not guessed and not header.disagreement(seconds)
