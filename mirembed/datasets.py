"""From a dataset's name and a folder to a listing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirembed.errors import DatasetError, MirembedError, PluginError, SpecError
from mirembed.hookspecs import Listing, Split
from mirembed.progress import Progress
from mirembed.registry import Plugin, Registry
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.frames import Tracks


@dataclass(frozen=True)
class Listed:
    """A listing and the audio folder that it was made from."""

    listing: Listing
    audio: Path


def official_splits(registry: Registry, spec: Spec) -> Mapping[str, Sequence[Split]]:
    """Return the official splits of a dataset by their name for ``--folds``."""
    return dict(_ask(registry, spec, "schemes"))


def known_faults(registry: Registry, spec: Spec) -> dict[str, str]:
    """Return the tracks of a dataset that are known to be faulty, with the published reason.

    Raises
    ------
    SpecError
        If none are known.
    """
    faults = dict(_ask(registry, spec, "known_faults"))
    if not faults:
        raise SpecError(f"--exclude known-faults: none are known of {spec.name}; leave it out")
    return faults


def exclude_tracks(registry: Registry, tracks: Tracks, what: str | None, progress: Progress) -> Tracks:
    """Leave tracks out, and say which.

    Parameters
    ----------
    what : str or None
        ``known-faults``, or None for nothing.

    Raises
    ------
    SpecError
        If ``what`` is something else, or the dataset has no known faults.
    """
    if what is None:
        return tracks
    if what != "known-faults":
        raise SpecError(f"--exclude {what}: expected known-faults")
    faults = known_faults(registry, Spec.parse(tracks.info.spec))
    excluded = {track: faults[track] for track in tracks.ids if track in faults}
    if not excluded:
        progress.note(f"none of the {len(faults)} known faults of {tracks.info.spec} are in the store")
        return tracks
    shown = ", ".join(list(excluded)[:10]) + (f" and {len(excluded) - 10} more" if len(excluded) > 10 else "")
    progress.note(f"{len(excluded)} known faults left out: {shown}")
    return tracks.without(excluded)


def _ask(registry: Registry, spec: Spec, method: str) -> Mapping[str, Any]:
    """Call an optional method of a dataset; without it the answer is empty."""
    plugin = registry.find("dataset", spec.name)
    answer = getattr(registry.create("dataset", spec), method, dict)
    try:
        return dict(answer())
    except MirembedError:
        raise
    except Exception as error:
        raise _blamed(plugin, spec, error) from error


def _blamed(plugin: Plugin, spec: Spec, error: Exception) -> PluginError:
    return PluginError(
        f"dataset {spec} of {plugin.distribution} {plugin.version} fails: {type(error).__name__}: {error}; "
        "report it to that plugin's authors"
    )


def list_dataset(registry: Registry, spec: Spec, audio: Path | None, store: Store, progress: Progress) -> Listed:
    """Ask a dataset plugin for its tracks.

    Without ``audio``, a dataset that can synthesises its own into the store; others take the folder that they were
    extracted from before.

    Raises
    ------
    DatasetError
        If the folder is missing or is not this dataset's.
    PluginError
        If the plugin is unknown or fails.
    """
    plugin = registry.find("dataset", spec.name)
    dataset = registry.create("dataset", spec)
    try:
        if audio is None and hasattr(dataset, "synthesise"):
            store.create()
            audio = store.audio(spec)
            progress.note(f"synthesising {spec.name} into {audio} ...")
            dataset.synthesise(audio)
        elif audio is None:
            if not store.dataset(spec).exists:
                raise DatasetError(f"the dataset {spec} needs its audio folder: --audio DIR")
            audio = Path(store.dataset(spec).info().audio)
        if not audio.is_dir():
            what = "is not a folder" if audio.exists() else "does not exist"
            raise DatasetError(f"--audio {audio} {what}; give the folder that holds the audio of {spec}")
        listing: Listing = dataset.listing(audio)
    except MirembedError:
        raise
    except OSError as error:
        raise DatasetError(f"cannot read the audio folder {audio}: {error.strerror or error}") from error
    except Exception as error:
        raise _blamed(plugin, spec, error) from error
    for note in listing.notes:
        progress.note(note)
    return Listed(listing, audio)
