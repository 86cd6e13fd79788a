"""Check a copy of a dataset before anyone trains on it.

Every file is measured once, in a worker process, and its measurements are cached until it changes. The functions below
turn the measurements and the listing into findings.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mirembed import workers
from mirembed.audio.decode_state import CANCELED
from mirembed.audio.decoding import decode
from mirembed.audio.files import audio_files, default_timeout, file_stamp, printable
from mirembed.audio.samples import SamplesAudio
from mirembed.config import defaults
from mirembed.datasets.duplicates import fingerprint, same_recordings
from mirembed.datasets.splits import default_scheme, groups_on_both_sides, make_folds
from mirembed.errors import AudioError, EvaluationError, MirembedError, StoreError, StoreWriteError
from mirembed.extract.file_features import WORKER_KEPT
from mirembed.hookspecs import Card, Classification, Features, Listing, Regression, Split, Tags, Track
from mirembed.interruption import interruptible
from mirembed.progress import NO_PROGRESS, Progress, counted
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store.files import read_table, write_table
from mirembed.store.rows import Failure, classes_of
from mirembed.store.tracks import tag_array

SILENT = 0.5
"""A track is reported if at least this fraction of it is silent."""

CLIPPED = 0.001
"""A track is reported if at least this fraction of its samples is at full scale; one in a thousand is audible."""

IMBALANCE = 3.0
"""Classes are reported if the largest is more than this many times the size of the smallest."""

CONFLICT = 0.1
"""Labels of one recording conflict if they differ by more than this fraction of a target's range."""


VERSION = 3
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
        Bytes, and modification time in nanoseconds, as `mirembed.audio.files.file_stamp` returns them.
    error : str or None
        Why the file cannot be decoded; the other attributes are then 0 or empty.
    rate : int
        Hz.
    seconds : float
    silent, clipped : float
        Fraction of 50-ms stretches that are silent, and of samples at full scale.
    audio_hash : str
        Digest of the decoded samples.
    notes : str
        What to know of the file although it can be read, see `mirembed.audio.decoding.Sound`.
    words : bytes
        The fingerprint as uint32, see `mirembed.datasets.duplicates`.
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
    notes: str = ""
    words: bytes = b""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a dataset, or worth knowing.

    Attributes
    ----------
    kind : str
        ``unreadable``, ``exact duplicate`` ...
    level : {"error", "warning"}
        An error is almost certainly a mistake; a warning may be intended.
    tracks : tuple of str
        Ids of the affected tracks, or paths; empty for the dataset as a whole.
    text : str
    """

    kind: str
    level: Literal["error", "warning"]
    tracks: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class CheckResult:
    """The outcome of a check.

    Attributes
    ----------
    n_tracks : int
        Number of tracks that were checked.
    findings : tuple of Finding
        Errors first.
    """

    n_tracks: int
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether there are no errors; warnings are allowed."""
        return all(finding.level == "warning" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON."""
        return {"n_tracks": self.n_tracks, "sound": self.sound, "findings": [asdict(f) for f in self.findings]}


def check(
    listing: Listing,
    audio: Path,
    *,
    card: Card | None,
    schemes: Mapping[str, Sequence[Split]],
    cache: Path,
    jobs: int,
    failures: Sequence[Failure] = (),
    progress: Progress = NO_PROGRESS,
) -> CheckResult:
    """Decode every file of a dataset once and report what is wrong.

    Parameters
    ----------
    listing : Listing
    audio : pathlib.Path
        The audio folder.
    card : Card or None
        Describes a complete copy, if the dataset has one.
    schemes : mapping of str to sequence of Split
        Official splits.
    cache : pathlib.Path
        Where measurements are kept, so that unchanged files are not decoded again.
    jobs : int
        Number of worker processes.
    failures : sequence of Failure
        Of the dataset in the store. A file that fails for a reason that the user has accepted is only a warning.
    progress : Progress
    """
    accepted = {(one.id, one.file_size, one.file_mtime_ns, one.reason) for one in failures if one.accepted}
    measured = measure_files([track.path for track in listing.tracks], cache, jobs, progress)
    by_id = {track.id: measurement for track, measurement in zip(listing.tracks, measured, strict=True)}
    with interruptible():
        found = [
            *_missing(listing, card),
            *_faulty(listing.tracks, by_id, card, accepted),
            *_duplicates(listing, by_id),
            *_unexpected(listing, audio),
            *_imbalance(listing),
            *_crossing_groups(listing, schemes),
        ]
    return CheckResult(len(listing.tracks), tuple(sorted(found, key=lambda finding: finding.level)))


def _missing(listing: Listing, card: Card | None) -> Iterator[Finding]:
    """Report how many tracks of a complete copy are missing."""
    expected = max(len(listing.tracks) + listing.absent, card.n_tracks if card else 0)
    if expected > len(listing.tracks):
        yield Finding("missing", "error", (), f"{expected - len(listing.tracks)} of {expected} tracks missing")


def _faulty(
    tracks: Sequence[Track],
    measured: Mapping[str, Measurement],
    card: Card | None,
    accepted: Collection[tuple[str, int, int, str]],
) -> Iterator[Finding]:
    """Report unreadable files, unexpected sampling rates and durations, silence and clipping."""
    for track in tracks:
        m = measured[track.id]
        one = (track.id,)
        if m.error is not None:
            if (track.id, m.size, m.mtime_ns, m.error) in accepted:
                yield Finding("unreadable", "warning", one, f"{m.error} (accepted)")
            else:
                yield Finding("unreadable", "error", one, m.error)
            continue
        if card is not None and card.rate is not None and m.rate != card.rate:
            yield Finding("sampling rate", "error", one, f"{m.rate} Hz, expected {card.rate} Hz")
        if card is not None and card.seconds is not None and not card.seconds[0] <= m.seconds <= card.seconds[1]:
            low, high = card.seconds
            yield Finding("duration", "error", one, f"{m.seconds:.1f} s, expected {low:g} to {high:g} s")
        if m.notes:
            yield Finding("file", "warning", one, m.notes)
        if m.silent >= SILENT:
            text = f"{m.silent:.0%} of the track is below {QUIET:g} dB"
            if CANCELED in m.notes:
                text = f"the mean of the channels, which cancel, is below {QUIET:g} dB in {m.silent:.0%} of the track"
            yield Finding("silence", "error", one, text)
        if m.clipped >= CLIPPED:
            yield Finding("clipping", "warning", one, f"{m.clipped:.1%} of the samples are at {FULL_SCALE} or more")


def _duplicates(listing: Listing, measured: Mapping[str, Measurement]) -> Iterator[Finding]:
    """Report tracks with the same samples, tracks of the same recording, and duplicates with different labels."""
    tracks = [track for track in listing.tracks if measured[track.id].error is None]
    same: dict[str, list[Track]] = defaultdict(list)
    for track in tracks:
        same[measured[track.id].audio_hash].append(track)
    exact: set[tuple[str, str]] = set()
    for copies in same.values():
        if len(copies) > 1:
            yield Finding("exact duplicate", "error", tuple(t.id for t in copies), "identical samples")
            yield from _conflicts(listing, copies)
        exact.update((a.id, b.id) for a, b in combinations(copies, 2))
    for match in same_recordings([np.frombuffer(measured[track.id].words, np.uint32) for track in tracks]):
        first, second = tracks[match.first], tracks[match.second]
        if (first.id, second.id) in exact:
            continue
        offset = f", offset by {match.offset:+.1f} s" if match.offset else ""
        text = f"the same recording{offset} ({1 - match.difference:.0%} of the fingerprint agrees)"
        yield Finding("near duplicate", "error", (first.id, second.id), text)
        yield from _conflicts(listing, [first, second])


def _conflicts(listing: Listing, copies: Sequence[Track]) -> Iterator[Finding]:
    """Report labels that differ between copies of one recording; unlabeled copies agree with all."""
    labeled = [track for track in listing.tracks if track.label is not None]
    copies = [track for track in copies if track.label is not None]
    ids = tuple(track.id for track in copies)
    if not copies or listing.task is None:
        return
    if not isinstance(listing.task, Regression):
        labels = sorted({", ".join(sorted(classes_of(track.label))) or "no tag" for track in copies})
        if len(labels) > 1:
            yield Finding("conflicting labels", "error", ids, f"one recording, labeled {' and '.join(labels)}")
        return
    everything = np.array([track.label for track in labeled])
    values = np.array([track.label for track in copies])
    for column, target in enumerate(listing.task.targets):
        low = everything[:, column].min() if target.low is None else target.low
        high = everything[:, column].max() if target.high is None else target.high
        if np.ptp(values[:, column]) > CONFLICT * (high - low):
            listed = " and ".join(f"{value:g}" for value in values[:, column])
            yield Finding("conflicting labels", "error", ids, f"one recording, with {target.name} {listed}")


def _unexpected(listing: Listing, audio: Path) -> Iterator[Finding]:
    """Report audio files under the folder that the dataset does not list."""
    listed = {track.path.resolve() for track in listing.tracks}
    try:
        files, _ = audio_files([audio])
    except MirembedError:  # the tracks are elsewhere, or their suffixes are unusual
        return
    if paths := tuple(str(file.relative_to(audio)) for file in files if file.resolve() not in listed):
        yield Finding("unexpected", "warning", paths, f"{counted(len(paths), 'audio file')} outside the dataset")


def _imbalance(listing: Listing) -> Iterator[Finding]:
    """Report unlabeled tracks, classes of very different sizes, tags of no or every track, and tracks without tags."""
    task = listing.task
    if task is None:
        return
    labeled = [track for track in listing.tracks if track.label is not None]
    if unlabeled := tuple(track.id for track in listing.tracks if track.label is None):
        yield Finding("no label", "warning", unlabeled, f"{counted(len(unlabeled), 'track')} without a label")
    if isinstance(task, Regression) or not labeled:
        return
    counts = Counter(dict.fromkeys(task.classes, 0))
    counts.update(name for track in labeled for name in classes_of(track.label))
    if isinstance(task, Tags):
        for tags, which in (
            ([tag for tag in task.classes if not counts[tag]], "no track has"),
            ([tag for tag in task.classes if counts[tag] == len(labeled)], "every track has"),
        ):
            if tags:
                yield Finding("imbalance", "warning", (), f"tags that {which}: {', '.join(tags)}")
        if without := tuple(track.id for track in labeled if not track.label):
            yield Finding("no tags", "warning", without, f"{counted(len(without), 'track')} without a tag")
        return
    (large, most), (small, least) = counts.most_common()[0], counts.most_common()[-1]
    if most > IMBALANCE * least:
        yield Finding("imbalance", "warning", (), f"{large!r} has {counted(most, 'track')}, {small!r} has {least}")


def _crossing_groups(listing: Listing, schemes: Mapping[str, Sequence[Split]]) -> Iterator[Finding]:
    """Report groups that are in both the training and the test part of the default folds, or of an official split."""
    tracks = [track for track in listing.tracks if track.label is not None]
    groups = [track.group for track in tracks]
    if listing.task is None or all(group is None for group in groups):
        return
    group_of = defaultdict(lambda: None, {track.id: track.group for track in tracks})
    scheme = default_scheme(listing.task)
    if isinstance(listing.task, Classification):
        labels = np.array([listing.task.classes.index(str(track.label)) for track in tracks])
    elif isinstance(listing.task, Tags):
        labels = tag_array(listing.task, [classes_of(track.label) for track in tracks])
    else:
        labels = np.zeros(len(tracks))
    try:
        folds, _ = make_folds(listing.task, labels, scheme=scheme, n_folds=defaults.N_FOLDS, seed=0)
    except EvaluationError:
        folds = []
    crossing = {f"{defaults.N_FOLDS} {scheme} folds": groups_on_both_sides(folds, groups)}
    for name, splits in schemes.items():
        crossing[f"the official folds {name}"] = groups_on_both_sides(splits, group_of)
    for folds_in_words, count in crossing.items():
        if count:
            text = f"in {folds_in_words}, {counted(count, 'test track')} with a group that is also in training"
            yield Finding("groups", "warning", (), f"{text}; --folds grouped keeps groups apart")


def measure_files(paths: Sequence[Path], cache: Path, jobs: int, progress: Progress) -> list[Measurement]:
    """Measure files; measurements of unchanged files come from the cache.

    Parameters
    ----------
    paths : sequence of pathlib.Path
    cache : pathlib.Path
        Parquet file, written once a minute and on interruption, so that the next call resumes. A note says if it
        cannot be written.
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
    done = {name: m for name, m in known.items() if (m.size, m.mtime_ns) == stamps.get(name)}
    missing = [path for name, path in by_name.items() if name not in done]
    progress.start("checking audio", len(missing))
    written_at, writable = time.monotonic(), True
    # No limit on memory: all samples of a file are needed at once, however many there are.
    limits = workers.Limits(default_timeout, kept=WORKER_KEPT)
    try:
        with contextlib.closing(workers.run(_measure, missing, jobs, limits=limits)) as outcomes:
            for number, outcome in enumerate(outcomes, 1):
                if isinstance(outcome, workers.Crashed):
                    name = printable(missing[outcome.index])
                    done[name] = Measurement(name, *stamps[name], error=outcome.reason)
                else:
                    done[outcome.result.path] = outcome.result
                progress.update(number)
                if writable and time.monotonic() - written_at > WRITE_SECONDS:
                    writable = _write_cache(cache, {**known, **done}, progress)
                    written_at = time.monotonic()
    finally:
        if missing and writable:
            _write_cache(cache, {**known, **done}, progress)
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
        notes="; ".join(audio.notes),
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


def _write_cache(cache: Path, measurements: dict[str, Measurement], progress: Progress) -> bool:
    """Write the cache; note it if that is impossible, and return whether it was possible."""
    table = pa.Table.from_pylist([asdict(measurement) for measurement in measurements.values()])
    try:
        write_table(cache, table.replace_schema_metadata({"mirembed.checks": str(VERSION)}))
    except StoreWriteError as error:
        progress.note(f"warning: {error}; until then, each check measures all files again")
        return False
    return True
