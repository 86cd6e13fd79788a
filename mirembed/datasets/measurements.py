"""Measurements of audio files, made in worker processes and cached until a file changes."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed import workers
from mirembed.audio import SamplesAudio, decode
from mirembed.audio.files import default_timeout, file_stamp, printable
from mirembed.config import defaults
from mirembed.datasets.duplicates import fingerprint
from mirembed.errors import AudioError, StoreError
from mirembed.extract.file_features import WORKER_KEPT
from mirembed.hookspecs import Features
from mirembed.progress import Progress
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store.files import read_table, write_table

VERSION = 2
"""Version of the measurements; a cache of another version is ignored."""

FULL_SCALE = 0.999
"""A sample of at least this magnitude counts as clipped."""

QUIET = -70.0
"""A stretch of 50 ms below this level, in dB relative to full scale, is silent."""

WRITE_SECONDS = 60.0
"""The cache is written this often, so a killed process loses at most this much work."""


@dataclass(frozen=True)
class Measurement:
    """Measurements of one audio file.

    Attributes
    ----------
    path : str
    size, mtime_ns : int
        Bytes, and modification time in nanoseconds.
    error : str or None
        Why the file cannot be decoded; the other attributes are then 0 or empty.
    rate : int
        Hz.
    seconds : float
    silent, clipped : float
        Fraction of 50-ms stretches that are silent, and of samples at full scale.
    audio_hash : str
        Digest of the decoded samples.
    words : bytes
        The fingerprint as uint32.
    """

    path: str
    size: int
    mtime_ns: int
    error: str | None = None
    rate: int = 0
    seconds: float = 0.0
    silent: float = 0.0
    clipped: float = 0.0
    audio_hash: str = ""
    words: bytes = b""

    @property
    def stamp(self) -> tuple[int, int]:
        """Size and modification time, as `mirembed.audio.files.file_stamp` returns them."""
        return self.size, self.mtime_ns

    @property
    def fingerprint(self) -> NDArray[np.uint32]:
        """The fingerprint, see `mirembed.datasets.duplicates`: ndarray ``[n_words]``, uint32."""
        return np.frombuffer(self.words, np.uint32)


def measure_files(paths: Sequence[Path], cache: Path, jobs: int, progress: Progress) -> list[Measurement]:
    """Measure files; measurements of unchanged files come from the cache.

    Parameters
    ----------
    paths : sequence of pathlib.Path
    cache : pathlib.Path
        Parquet file, written once a minute and on interruption, so that the next call resumes.
    jobs : int
        Number of worker processes.

    Returns
    -------
    list of Measurement
        In the order of ``paths``.
    """
    known = _read_cache(cache)
    by_name = {printable(path): path for path in paths}
    stamps = {name: file_stamp(path) for name, path in by_name.items()}
    done = {name: known[name] for name, stamp in stamps.items() if name in known and known[name].stamp == stamp}
    missing = [path for name, path in by_name.items() if name not in done]
    progress.start("checking audio", len(missing))
    written_at = time.monotonic()
    try:
        # No limit on memory: all samples of a file are needed at once, however many there are.
        limits = workers.Limits(default_timeout, kept=WORKER_KEPT)
        for number, outcome in enumerate(workers.run(_measure, missing, jobs, limits=limits), 1):
            if isinstance(outcome, workers.Crashed):
                name = printable(missing[outcome.index])
                done[name] = Measurement(name, *stamps[name], error=outcome.reason)
            else:
                done[outcome.result.path] = outcome.result
            progress.update(number)
            if time.monotonic() - written_at > WRITE_SECONDS:
                _write_cache(cache, {**known, **done})
                written_at = time.monotonic()
    finally:
        if missing:
            _write_cache(cache, {**known, **done})
    return [done[printable(path)] for path in paths]


def _measure(path: Path) -> Measurement:
    name = printable(path)
    stamp = file_stamp(path)
    try:
        audio = decode(path)
        # Raises what `extract` would: a rate too low for the bands, or less than one frame.
        _features().extract(SamplesAudio(audio.samples[: audio.rate // 10], audio.rate))
    except (AudioError, MemoryError) as error:
        reason = str(error) if isinstance(error, AudioError) else "not enough memory to decode it"
        return Measurement(name, *stamp, error=reason)
    return Measurement(
        name,
        *stamp,
        rate=audio.rate,
        seconds=len(audio.samples) / audio.rate,
        silent=_silent_share(audio.samples, audio.rate),
        clipped=float(np.mean(np.abs(audio.samples) >= FULL_SCALE)),
        audio_hash=audio.audio_hash,
        words=fingerprint(audio.samples, audio.rate).tobytes(),
    )


@functools.cache
def _features() -> Features:
    """Create the default features, once for each worker."""
    features: Features = Registry.discover().create("features", Spec.parse(defaults.FEATURES))
    return features


def _silent_share(samples: NDArray[np.float32], rate: int) -> float:
    length = min(len(samples), max(1, rate // 20))
    stretches = samples[: len(samples) // length * length].reshape(-1, length)
    power = np.einsum("ij,ij->i", stretches, stretches) / length
    return float(np.mean(power < 10 ** (QUIET / 10)))


def _read_cache(cache: Path) -> dict[str, Measurement]:
    if not cache.exists():
        return {}
    try:
        table = read_table(cache)
    except StoreError:
        return {}  # measure again
    if (table.schema.metadata or {}).get(b"mirembed.checks") != str(VERSION).encode():
        return {}
    rows: list[dict[str, Any]] = table.to_pylist()
    return {row["path"]: Measurement(**row) for row in rows}


def _write_cache(cache: Path, measurements: dict[str, Measurement]) -> None:
    import pyarrow as pa

    table = pa.Table.from_pylist([asdict(measurement) for measurement in measurements.values()])
    write_table(cache, table.replace_schema_metadata({"mirembed.checks": str(VERSION)}))
