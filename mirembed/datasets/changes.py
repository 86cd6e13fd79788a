"""Whether the labels of a dataset have changed since it was extracted: the files on disk against the store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from mirembed.datasets.catalog import read_listing
from mirembed.errors import MirembedError
from mirembed.hookspecs import Listing, Regression
from mirembed.progress import NO_PROGRESS, Progress, counted
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import DatasetInfo, Store, StoredTrack
from mirembed.store.file_tags import KnownFileTags
from mirembed.store.tracks import Tracks


def noting_changes(registry: Registry, store: Store, tracks: Tracks, progress: Progress = NO_PROGRESS) -> Tracks:
    """List a dataset again, and add a note to its tracks if its labels are no longer those in the store.

    Nothing is decoded. A dataset whose audio folder is gone cannot be listed, and its stored labels are used without a
    note. So are the stored labels of tracks whose audio is gone.

    Parameters
    ----------
    registry : Registry
    store : Store
        That of the tracks.
    tracks : Tracks
    progress : Progress, optional
        Gets the note too.
    """
    info = tracks.info
    if not Path(info.audio).is_dir():
        return tracks
    spec = Spec.parse(info.spec)
    try:
        listing = read_listing(registry, spec, Path(info.audio), KnownFileTags(store))
    except MirembedError as error:
        note = f"cannot check whether the labels of {spec} have changed since `mirembed extract`: {error}"
    else:
        changes = _changes(store.dataset(spec).tracks(), info, listing)
        if not changes:
            return tracks
        note = (
            f"warning: the labels of {spec} have changed since `mirembed extract` ({', '.join(changes)}); the stored "
            f"labels are used: to update them, run `mirembed extract --dataset {spec}`"
        )
    progress.note(note)
    return replace(tracks, notes=(*tracks.notes, note))


def _changes(stored: Iterable[StoredTrack], info: DatasetInfo, listing: Listing) -> list[str]:
    """Count what differs between the store and a listing."""
    before = {track.id: track for track in stored if track.listed}
    both = [(before[track.id], track) for track in listing.tracks if track.id in before]
    numbers = {
        "other label": sum(old.label != new.label for old, new in both),
        "other group": sum(old.group != new.group for old, new in both),
        "new track": len(listing.tracks) - len(both),
    }
    found = [counted(number, thing) for thing, number in numbers.items() if number]
    if isinstance(info.task, Regression) and info.task != listing.task:
        found.append("other targets or ranges")
    return found
