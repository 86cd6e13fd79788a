"""From a dataset's name and a folder to a listing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mirembed.errors import DatasetError, MirembedError, PluginError
from mirembed.hookspecs import Listing
from mirembed.progress import Progress
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import Store


@dataclass(frozen=True)
class Listed:
    """A listing and the audio folder that it was made from."""

    listing: Listing
    audio: Path


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
        raise PluginError(
            f"dataset {spec} of {plugin.distribution} {plugin.version} fails: {type(error).__name__}: {error}; "
            "report it to that plugin's authors"
        ) from error
    for note in listing.notes:
        progress.note(note)
    return Listed(listing, audio)
