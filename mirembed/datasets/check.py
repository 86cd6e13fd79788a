"""Look at a dataset before anyone trains on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mirembed.audio.files import audio_files
from mirembed.datasets import findings
from mirembed.datasets.findings import Finding
from mirembed.datasets.measurements import measure_files
from mirembed.errors import MirembedError
from mirembed.hookspecs import Card, Listing, Split
from mirembed.progress import Progress, Silent


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes
    ----------
    n_tracks : int
        Tracks that were looked at.
    findings : tuple of Finding
        Errors first.
    """

    n_tracks: int
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong; warnings are allowed."""
        return all(finding.level == "warning" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return {"n_tracks": self.n_tracks, "sound": self.sound, "findings": [asdict(f) for f in self.findings]}


def check(
    listing: Listing,
    audio: Path,
    *,
    card: Card | None,
    schemes: Mapping[str, Sequence[Split]],
    cache: Path,
    jobs: int,
    progress: Progress | None = None,
) -> Report:
    """Decode every file of a dataset once and report what is wrong.

    Parameters
    ----------
    listing : Listing
    audio : pathlib.Path
        The audio folder.
    card : Card or None
        What the dataset should be, where it says so.
    schemes : mapping of str to sequence of Split
        Official splits.
    cache : pathlib.Path
        What was measured of files that have not changed since.
    jobs : int
        Worker processes.
    """
    progress = progress or Silent()
    tracks = listing.tracks
    measured = measure_files([track.path for track in tracks], cache, jobs, progress)
    by_id = {track.id: measurement for track, measurement in zip(tracks, measured, strict=True)}
    found = [
        *findings.missing(listing, card),
        *findings.sound(tracks, by_id, card),
        *findings.duplicates(listing, by_id),
        *findings.unexpected(_unlisted(listing, audio)),
        *findings.balance(listing),
        *findings.crossing_groups(listing, schemes),
    ]
    return Report(len(tracks), tuple(sorted(found, key=lambda finding: finding.level)))


def _unlisted(listing: Listing, audio: Path) -> list[str]:
    """Return the audio files under the folder that no track is, relative to it."""
    listed = {track.path.resolve() for track in listing.tracks}
    try:
        files = audio_files([audio])
    except MirembedError:  # the tracks are elsewhere, or not called like audio
        return []
    return [str(file.relative_to(audio)) for file in files if file.resolve() not in listed]
