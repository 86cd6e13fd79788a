"""Everything that touches Essentia: whether it is there, its algorithms one by one, and decoding with it.

Essentia decodes (by FFmpeg) more formats than soundfile and is less careful. It may be missing: some platforms have no
wheel of it.
"""

from __future__ import annotations

import functools
import os
import tempfile
import wave
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.decode_state import BLOCK_VALUES, OpenFile, silenced
from mirembed.audio.headers import Header
from mirembed.errors import AudioError

LONG_SECONDS = 20 * 60
LONG_BYTES = 50 * 10**6
"""Longer files, and larger ones that state no length, are decoded to disk: Essentia returns all samples at once."""

_TEXTS = (b"#extm3u", b"ffconcat", b"[playlist]", b"<?xml", b"<smil", b"<mpd", b"v=0", b"<!doctype", b"<html")
"""First bytes of web pages, and of files that make FFmpeg open other files or network addresses, in lower case."""


@functools.cache
def essentia_error() -> str | None:
    """Return why Essentia cannot be imported, or None if it can."""
    try:
        with silenced():
            import essentia._essentia  # noqa: F401
    except Exception as error:  # whatever a broken installation raises
        return str(error) or type(error).__name__
    return None


def essentia_algorithm(name: str, **parameters: object) -> Any:
    """Create and configure one of Essentia's algorithms.

    ``essentia.standard`` instantiates all of its 250 algorithms when it is imported (1.4 s, 140 MiB), and its
    ``compute`` converts types at every call. The extension module below it, which has no public name, does neither.
    Nothing outside this file uses it.

    Parameters
    ----------
    name : str
        As in Essentia's reference, for instance ``Windowing``.
    **parameters
        Parameters of the algorithm, converted to Essentia's types.

    Returns
    -------
    _essentia.Algorithm
        Run it with ``__compute__``, which takes contiguous float32 arrays only.

    Raises
    ------
    RuntimeError
        Essentia rejects a parameter.
    """
    with silenced():
        from essentia import _essentia
        from essentia.common import convertData

        instance = _essentia.Algorithm(name)
        instance.__configure__(
            **{key: convertData(value, instance.paramType(key)) for key, value in parameters.items()}
        )
    return instance


def open_by_essentia(path: Path, header: Header, before: str, stack: ExitStack) -> OpenFile:
    """Decode a file, to memory or, if it is long, to disk.

    Parameters
    ----------
    path : pathlib.Path
    header : Header
    before : str
        Why soundfile did not decode it.
    stack : contextlib.ExitStack
        Closes the temporary file.

    Raises
    ------
    AudioError
        Essentia is not installed, or cannot decode the file either.
    """
    if missing := essentia_error():
        raise AudioError(
            f"soundfile is not enough to decode this file ({before}), and Essentia cannot be imported ({missing}); "
            "install Essentia, or convert the file to 24-bit FLAC"
        )
    with path.open("rb") as file:
        head = file.read(2**20)
    if head[:64].removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_TEXTS):
        raise AudioError("a playlist, web page or other text, not an audio file")
    if not head.strip(b"\0"):  # FFmpeg would read on until it finds something
        raise AudioError(f"the first {len(head)} bytes are zeros, not audio; copy or download the file again")
    long = header.stated > LONG_SECONDS or (not header.stated and path.stat().st_size > LONG_BYTES)
    try:
        with _plain_name(path) as name:
            return _decode_to_disk(name, stack) if long else _decode_in_memory(name)
    except RuntimeError as error:
        reason = str(error).rpartition("AudioLoader: ")[2].rpartition("error = ")[2]
        holding = f", which holds {header.kind}" if header.kind else ""
        raise AudioError(
            f"neither soundfile nor Essentia can decode this file{holding} (soundfile: {before}; Essentia: {reason}); "
            "convert it to 24-bit FLAC or leave it out"
        ) from error


@contextmanager
def _plain_name(path: Path) -> Iterator[str]:
    """Yield a name of the file that Essentia understands.

    It accepts valid UTF-8 only, and FFmpeg would take the beginning of a relative name for a protocol
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


def _decode_in_memory(name: str) -> OpenFile:
    loader = _audio_loader()
    loader.__configure__(filename=name)
    samples, rate, channels, *_ = loader.__compute__()

    def blocks() -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(samples), BLOCK_VALUES // 2):
            # Mono comes as the left channel of two.
            yield np.ascontiguousarray(samples[start : start + BLOCK_VALUES // 2, : int(channels)])

    return OpenFile(int(rate), int(channels), 0.0, "essentia", blocks)


@functools.cache
def _audio_loader() -> Any:
    """Return the process's only AudioLoader, which has already decoded a good file.

    An AudioLoader whose first configuration fails crashes the process when it is destroyed; one that has run before
    raises an error and keeps working.
    """
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        with wave.open(file, "wb") as silence:
            silence.setparams((1, 2, 16_000, 0, "NONE", ""))
            silence.writeframes(bytes(3200))
        file.flush()
        loader = essentia_algorithm("AudioLoader", filename=file.name)
        loader.__compute__()
    return loader


def _decode_to_disk(name: str, stack: ExitStack) -> OpenFile:
    """Decode to a temporary file, which holds only the mean of the channels."""
    file = Path(stack.enter_context(tempfile.NamedTemporaryFile(prefix="mirembed-", suffix=".f32")).name)  # noqa: SIM115
    rate, n_samples = _write_mean(name, str(file))
    if file.stat().st_size < 4 * n_samples:  # Essentia does not notice a full disk
        raise AudioError(f"no disk space in {file.parent} to decode it; free some or set TMPDIR")

    def blocks() -> Iterator[NDArray[np.float32]]:
        with file.open("rb") as samples:
            while block := samples.read(4 * BLOCK_VALUES):
                yield np.frombuffer(block, np.float32).reshape(-1, 1)

    return OpenFile(rate, 1, 0.0, "essentia", blocks)


def _write_mean(name: str, raw: str) -> tuple[int, int]:
    """Decode a file in Essentia's streaming mode, which holds only a buffer in memory.

    Parameters
    ----------
    name : str
        The audio file.
    raw : str
        The file that receives the mean of the channels, as float32.

    Returns
    -------
    rate : int
        Hz.
    n_samples : int
        How many samples were written, if the disk had room for them.
    """
    with silenced():
        from essentia import _essentia
        from essentia.common import Pool

        loader, mixer, output = map(_essentia.StreamingAlgorithm, ("AudioLoader", "MonoMixer", "FileOutput"))
        loader.__configure__(filename=name)
        mixer.__configure__(type="mix")
        output.__configure__(filename=raw, mode="binary")
        pool = Pool()
        _essentia.connect(loader, "audio", mixer, "audio")
        _essentia.connect(loader, "numberChannels", mixer, "numberChannels")
        _essentia.poolConnect(loader, "sampleRate", pool.cppPool, "rate")
        for unused in ("md5", "bit_rate", "codec"):
            _essentia.nowhereConnect(loader, unused)
        _essentia.fileOutputConnect(mixer, "audio", output)
        _essentia.run(loader)
        return int(pool["rate"]), int(_essentia.totalProduced(mixer, "audio"))
