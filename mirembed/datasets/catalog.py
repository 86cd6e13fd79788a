"""What dataset plugins say: descriptions, listings of folders, official splits and known faults."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirembed.audio.files import find_audio
from mirembed.datasets.labels import described
from mirembed.errors import DatasetError, PluginError, SpecError
from mirembed.hookspecs import Card, Listing, Split
from mirembed.listings import check_listing, list_tracks
from mirembed.progress import Progress, counted, first_names
from mirembed.registry import HOST, Registry, plugin_code
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.file_tags import KnownFileTags

if TYPE_CHECKING:
    from mirembed.store.tracks import Tracks


@dataclass(frozen=True)
class Overview:
    """A dataset as a row of the list of datasets.

    Attributes
    ----------
    name : str
    card : Card
        If the plugin has none, one with its summary as the title.
    stored : str
        How much of it is in the store, such as ``18 of 25``.
    """

    name: str
    card: Card
    stored: str

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON."""
        facts = {key: getattr(self.card, key) for key in _LISTED_FACTS}
        urls = [archive.url for archive in self.card.archives]
        return {"name": self.name, **facts, "archives": urls, "stored": self.stored}


_LISTED_FACTS = ("title", "n_tracks", "labels", "license", "source", "citation")


def overview(registry: Registry, store: Store) -> list[Overview]:
    """Return a row for every dataset plugin, sorted by name."""
    infos = [(dataset, dataset.info()) for dataset in store.datasets()]
    rows = []
    for plugin in sorted((p for p in registry.plugins if p.kind == "dataset"), key=registry.shown_name):
        name = registry.shown_name(plugin)
        card = getattr(plugin.factory, "card", None)
        stored = [
            f"{dataset.n_listed()} of {info.n_listed + info.n_absent}"
            for dataset, info in infos
            if Spec.parse(info.spec).name in (name, plugin.full_name)
        ]
        if not isinstance(card, Card):
            card = Card(plugin.summary, 0, "", "", "", "", "")
        rows.append(Overview(name, card, ", ".join(stored)))
    return rows


@dataclass(frozen=True)
class Description:
    """What is known about a dataset without its audio."""

    name: str
    summary: str
    card: Card | None
    parameters: str
    schemes: Mapping[str, int]
    faults: Mapping[str, str]

    def paragraphs(self) -> list[tuple[str, str]]:
        """Return headings and texts, without those that are unknown."""
        card = self.card
        texts = {self.name: card.title if card else self.summary}
        if card is not None:
            checked = [
                "" if card.rate is None else f"sampling rate {card.rate} Hz",
                "" if card.seconds is None else f"duration {card.seconds[0]:g} to {card.seconds[1]:g} s",
                "missing, unexpected, unreadable and truncated files; silence, clipping, duplicates, labels, groups",
            ]
            texts |= {
                "Labels": card.labels,
                "Tracks": str(card.n_tracks) if card.n_tracks else "",
                "License": card.license,
                "Where to get it": "\n".join(filter(None, [card.source, *(archive.url for archive in card.archives)])),
                "Expected files": card.tree,
                "Checked": "\n".join(filter(None, checked)),
                "Cite": card.citation,
            }
        texts["Parameters"] = self.parameters
        folds = [f"--folds {name}: {counted(count, 'split')}" for name, count in self.schemes.items()]
        folds += [f"--folds {name}: its lists come with the audio" for name in (card.folds if card else ())]
        texts["Official folds"] = "\n".join(folds)
        if self.faults:
            listed = "\n".join(f"{track}: {reason}" for track, reason in self.faults.items())
            texts[f"Known faults ({len(self.faults)}; --exclude known-faults leaves them out)"] = listed
        return [(heading, text.strip("\n")) for heading, text in texts.items() if text]


def describe(registry: Registry, spec: Spec) -> Description:
    """Return what a dataset plugin says about itself."""
    plugin = registry.find("dataset", spec.name)
    return Description(
        name=str(spec),
        summary=plugin.summary,
        card=card_of(registry, spec),
        parameters=plugin.parameters,
        schemes={name: len(splits) for name, splits in official_splits(registry, spec).items()},
        faults=_ask(registry, spec, "known_faults"),
    )


def card_of(registry: Registry, spec: Spec) -> Card | None:
    """Return the card of a dataset, or None where it has none."""
    with _plugin(registry, spec) as dataset:
        card = getattr(dataset, "card", None)
    return card if isinstance(card, Card) else None


def official_splits(
    registry: Registry, spec: Spec, recorded: Mapping[str, Any] | None = None
) -> Mapping[str, Sequence[Split]]:
    """Return the official splits of a dataset by their name for ``--folds``.

    Parameters
    ----------
    registry : Registry
    spec : Spec
    recorded : mapping, optional
        What the store recorded about the plugin that listed the dataset.

    Raises
    ------
    UnknownNameError
        If that plugin is not installed; the message says what to install.
    PluginError
        If the plugin fails or returns something else.
    """
    if recorded and "distribution" in recorded:
        registry.require("dataset", recorded, f"the dataset {spec} of the store")
    splits = _ask(registry, spec, "schemes")
    for name, folds in splits.items():
        if not isinstance(folds, Sequence) or not all(isinstance(fold, Split) for fold in folds):
            blamed = registry.find("dataset", spec.name).with_origin(spec)
            raise PluginError(f"{blamed}: schemes()[{name!r}] is {type(folds).__name__}; expected a sequence of Split")
    return splits


def exclude_tracks(registry: Registry, tracks: Tracks, what: str | None, progress: Progress) -> Tracks:
    """Exclude tracks, and say which.

    Parameters
    ----------
    registry : Registry
    tracks : Tracks
    what : str or None
        ``known-faults``, or None to keep all tracks.
    progress : Progress

    Raises
    ------
    SpecError
        If ``what`` is something else, or the dataset has no known faults.
    """
    if what is None:
        return tracks
    if what != "known-faults":
        raise SpecError(f"--exclude {what}: expected known-faults")
    spec = Spec.parse(tracks.info.spec)
    faults = _ask(registry, spec, "known_faults")
    if not faults:
        raise SpecError(f"--exclude known-faults: {spec.name} has no known faults; leave out this option")
    excluded = {track: faults[track] for track in tracks.ids if track in faults}
    if not excluded:
        progress.note(f"none of the {len(faults)} known faults of {spec} are in the store")
        return tracks
    count = counted(len(excluded), "track")
    progress.note(f"excluding {count} with known faults: {first_names(list(excluded), 10)}")
    return tracks.without(excluded)


def list_dataset(
    registry: Registry,
    spec: Spec,
    audio: Path | None,
    store: Store,
    progress: Progress,
    file_tags: KnownFileTags | None = None,
) -> tuple[Listing, Path]:
    """Ask a dataset plugin for its tracks, check them, and return them with the folder of their audio.

    Without ``audio``, a dataset that can synthesize its audio does so in the store; for others it is the folder that
    they were last extracted from.

    Parameters
    ----------
    registry : Registry
    spec : Spec
    audio : pathlib.Path or None
    store : Store
    progress : Progress
    file_tags : KnownFileTags, optional
        Answers a plugin that takes file tags.

    Raises
    ------
    DatasetError
        If the folder is missing or not this dataset's, or the listing is not sound.
    PluginError
        If the plugin is unknown or fails.
    """
    known = file_tags or KnownFileTags(store)
    audio = audio_folder(registry, spec, audio, store, progress, known)
    with _plugin(registry, spec) as dataset:
        unread = getattr(dataset, "takes_file_tags", False) and not store.dataset(spec).exists
        try:
            files = find_audio(audio).files if unread else {}
        except OSError as error:
            raise _unreadable(audio, error) from error
    known.of_tracks(files, progress)  # here, because a plugin cannot show its progress
    listing = read_listing(registry, spec, audio, known)
    for note in [*described(listing), *listing.notes]:
        progress.note(note)
    return listing, audio


def audio_folder(
    registry: Registry,
    spec: Spec,
    audio: Path | None,
    store: Store,
    progress: Progress,
    file_tags: KnownFileTags | None = None,
) -> Path:
    """Return the folder of a dataset's audio; see `list_dataset`.

    Raises
    ------
    DatasetError
        If the folder is missing, or not known.
    PluginError
        If the plugin is unknown or fails.
    """
    with _plugin(registry, spec) as dataset:
        try:
            if audio is None and hasattr(dataset, "synthesize"):
                store.create()
                audio = store.audio(spec)
                if not _is_complete(dataset, audio, file_tags or KnownFileTags(store)):
                    progress.note(f"synthesizing {spec.name} into {audio} ...")
                dataset.synthesize(audio)
            elif audio is None:
                if not store.dataset(spec).exists:
                    raise DatasetError(f"dataset {spec} needs its audio folder; give --audio DIR")
                audio = Path(store.dataset(spec).info().audio)
                if not audio.is_dir():
                    raise DatasetError(
                        f"the audio folder {audio} of dataset {spec} is missing; bring it back, or give the folder "
                        "with --audio DIR"
                    )
            if not audio.is_dir():
                what = "is not a folder" if audio.exists() else "does not exist"
                raise DatasetError(f"--audio {audio} {what}; give the folder with the audio of dataset {spec}")
        except OSError as error:
            raise _unreadable(audio, error) from error
    return audio


def read_listing(registry: Registry, spec: Spec, audio: Path, file_tags: KnownFileTags) -> Listing:
    """Ask a dataset plugin for the tracks in a folder, and check them; ``file_tags`` is for plugins that take them.

    Raises
    ------
    DatasetError
        If the folder cannot be read or is not this dataset's, or the listing is not sound.
    PluginError
        If the plugin is unknown or fails.
    """
    plugin = registry.find("dataset", spec.name)
    with _plugin(registry, spec) as dataset:
        try:
            listing: Listing = list_tracks(dataset, audio, file_tags)
        except OSError as error:
            raise _unreadable(audio, error) from error
        check_listing(listing, str(spec) if plugin.distribution == HOST else plugin.with_origin(spec))
    return listing


def _unreadable(audio: Path | None, error: OSError) -> DatasetError:
    return DatasetError(f"cannot read the audio folder {audio}: {error.strerror or error}")


def _is_complete(dataset: Any, audio: Path, file_tags: KnownFileTags) -> bool:
    """Whether a dataset that synthesizes its audio finds all of it in a folder."""
    with contextlib.suppress(DatasetError, OSError):
        return audio.is_dir() and not list_tracks(dataset, audio, file_tags).absent
    return False


def _ask(registry: Registry, spec: Spec, method: str) -> dict[str, Any]:
    """Call an optional method of a dataset that returns a mapping; without the method, the mapping is empty."""
    with _plugin(registry, spec) as dataset:
        return dict(getattr(dataset, method, dict)())


@contextlib.contextmanager
def _plugin(registry: Registry, spec: Spec) -> Iterator[Any]:
    """Create a dataset, and blame its plugin for whatever goes wrong in the block."""
    dataset = registry.create("dataset", spec)
    with plugin_code(f"{registry.find('dataset', spec.name).with_origin(spec)} fails"):
        yield dataset
