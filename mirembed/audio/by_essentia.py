"""Decoding by Essentia (FFmpeg), which knows more formats than soundfile and is less careful."""

from __future__ import annotations

import functools
import os
import tempfile
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mirembed.audio.essentia_algorithms import algorithm, audio_to_file, why_not
from mirembed.audio.headers import Header
from mirembed.audio.tally import BLOCK_VALUES, R, Tally
from mirembed.errors import AudioError

LONG_SECONDS = 20 * 60
LONG_BYTES = 50 * 10**6
"""A longer file, or a larger one that states no length, is decoded to the disk: Essentia returns all or nothing."""

_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"[playlist]", b"<?xml", b"<smil", b"<MPD", b"v=0")
"""How files begin that have FFmpeg open other files, or addresses on the network."""


def decode_by_essentia(path: Path, header: Header, receiver: Callable[[int], R], before: str) -> Tally[R]:
    """Decode a file.

    Parameters
    ----------
    before : str
        Why soundfile did not decode it.

    Raises
    ------
    AudioError
        Essentia is not installed, or cannot decode it either.
    """
    missing = why_not()
    if missing is not None:
        raise AudioError(
            f"soundfile cannot decode this file ({before}), and Essentia, which could, is not there ({missing}): "
            "convert it to FLAC, or install Essentia"
        )
    if _begins_like_a_playlist(path):
        raise AudioError("a playlist or another list of addresses, where an audio file was expected")
    long = header.stated > LONG_SECONDS or (not header.stated and path.stat().st_size > LONG_BYTES)
    try:
        with _plain_name(path) as name:
            return _by_the_disk(name, receiver) if long else _in_memory(name, receiver)
    except RuntimeError as error:
        reason = str(error).rpartition("AudioLoader: ")[2].rpartition("error = ")[2]
        raise AudioError(
            f"neither soundfile nor Essentia can decode this file ({reason}): convert it to FLAC, or leave it out"
        ) from error


def _in_memory(name: str, receiver: Callable[[int], R]) -> Tally[R]:
    import numpy as np

    loader = _audio_loader()
    loader.__configure__(filename=name)
    samples, rate, n_channels, *_ = loader.__compute__()
    tally = Tally(receiver, int(rate), int(n_channels), "essentia")
    for start in range(0, len(samples), BLOCK_VALUES // 2):
        # Mono comes as the left channel of two.
        tally.add(np.ascontiguousarray(samples[start : start + BLOCK_VALUES // 2, :n_channels]))
    return tally


def _by_the_disk(name: str, receiver: Callable[[int], R]) -> Tally[R]:
    """Decode to a temporary file; of several channels only the mean is written."""
    import numpy as np

    with tempfile.NamedTemporaryFile(prefix="mirembed-", suffix=".f32") as file:
        rate, n_samples = audio_to_file(name, file.name)
        tally = Tally(receiver, rate, 1, "essentia")
        while block := file.read(4 * BLOCK_VALUES):
            tally.add(np.frombuffer(block[: len(block) // 4 * 4], np.float32).reshape(-1, 1))
        if tally.n_samples < n_samples:
            raise AudioError(f"no room to decode it in {Path(file.name).parent}: free some, or set TMPDIR")
    return tally


def _begins_like_a_playlist(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_PLAYLISTS)


@contextmanager
def _plain_name(path: Path) -> Iterator[str]:
    """Yield a name of the file that Essentia understands.

    It takes valid UTF-8 only; and FFmpeg would take the beginning of a relative name for a protocol
    (``concat:a.wav|b.wav``).
    """
    absolute = str(path.absolute())
    try:
        absolute.encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory(prefix="mirembed-") as folder:
            link = Path(folder) / "audio"
            link.symlink_to(os.fsencode(path.absolute()).decode("utf-8", "surrogateescape"))
            yield str(link)
    else:
        yield absolute


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
