"""Files that have another name or place than when they were extracted."""

from __future__ import annotations

from collections.abc import Sequence

from mirembed.audio.files import file_hash, file_stamp
from mirembed.hookspecs import Track
from mirembed.store import FeatureStore


def moved_tracks(store: FeatureStore, tracks: Sequence[Track]) -> dict[str, Track]:
    """Find the tracks that the store has under an id that is no longer listed.

    Returns
    -------
    dict of str to Track
        By the stored id, the listed track whose file has the same bytes. Of several stored tracks with these bytes
        each is taken once.
    """
    listed = {track.id for track in tracks}
    stored: set[str] = set()
    gone: dict[int, dict[str, list[str]]] = {}
    for row in store.index().to_pylist():
        stored.add(row["id"])
        if row["id"] not in listed:
            gone.setdefault(row["file_size"], {}).setdefault(row["file_hash"], []).append(row["id"])
    found: dict[str, Track] = {}
    for track in tracks:
        # Only a file of the right size is worth reading.
        if track.id not in stored and (same_size := gone.get(file_stamp(track.path)[0])):
            same = same_size.get(file_hash(track.path), [])
            if same:
                found[same.pop(0)] = track
    return found
