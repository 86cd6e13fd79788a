"""Decoding by soundfile (libsndfile)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirembed.audio.headers import PADDING, Header
from mirembed.audio.tally import BLOCK_VALUES, R, Tally, require_bounded
from mirembed.errors import AudioError

if TYPE_CHECKING:
    import soundfile


class NotDecodedError(Exception):
    """soundfile cannot decode this file, or not to its end; another decoder may. The message says why."""


def decode_by_soundfile(path: Path, header: Header, receiver: Callable[[int], R]) -> Tally[R]:
    """Decode a file, block by block.

    Raises
    ------
    NotDecodedError
        Another decoder has to try.
    AudioError
        The file is damaged.
    """
    import soundfile

    with _open(path) as file:
        is_mpeg = file.subtype.startswith("MPEG")
        n_stated = file.frames
        unstated = n_stated == 2**63 - 1  # as in a FLAC that was written to a pipe
        if not is_mpeg and not unstated:  # of an MPEG file it may be an estimate
            require_bounded(n_stated / file.samplerate)
        tally = Tally(receiver, file.samplerate, file.channels, "soundfile")
        length = max(1, BLOCK_VALUES // file.channels)
        try:
            while len(block := file.read(length, dtype="float32", always_2d=True)):
                tally.add(block)
        except soundfile.SoundFileError as error:
            if is_mpeg:
                raise NotDecodedError(f"damaged: {error}") from error
            raise AudioError(f"damaged or truncated ({error}): copy or download it again") from error
    if is_mpeg and not _is_whole(tally, n_stated, header):
        raise NotDecodedError(f"it may be cut short: {tally.seconds:.1f} s decoded")
    return tally


def _open(path: Path) -> soundfile.SoundFile:
    import soundfile

    class Stream(soundfile.SoundFile):  # type: ignore[misc]
        """A file that is read from front to back.

        soundfile seeks after each block, to where it is already; in a FLAC that states no length this fails.
        """

        def seekable(self) -> bool:
            return False

    try:
        return Stream(os.fsencode(path))
    # The other two are about an ending (.raw) that soundfile takes for samples without a header.
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        raise NotDecodedError(_reason(error)) from error


def _reason(error: Exception) -> str:
    text: Any = getattr(error, "error_string", None) or "not a format that it knows"
    return str(text).rstrip(".")


def _is_whole(tally: Tally[Any], limit: int, header: Header) -> bool:
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
    agree = all(abs(tally.seconds - length) <= PADDING for length in lengths)
    return agree and (header.stated > 0 or tally.n_samples < limit)
