"""From a dataset's name and a folder to a listing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mirembed.errors import DatasetError, PluginError, SpecError
from mirembed.hookspecs import Card, Listing, Split
from mirembed.listings import check_listing
from mirembed.progress import Progress
from mirembed.registry import HOST, Registry, plugin_code
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.tracks import Tracks


@dataclass(frozen=True)
class Listed:
    """A listing and the audio folder that it was made from."""

    listing: Listing
    audio: Path


@dataclass(frozen=True)
class Overview:
    """A dataset in a line.

    Attributes
    ----------
    name, title, labels, license, source, citation : str
    n_tracks : int
        Of a complete copy; 0 where it depends on the user.
    archives : tuple of str
        Addresses it can be fetched from.
    stored : str
        How much of it is in the store.
    """

    name: str
    title: str
    n_tracks: int
    labels: str
    license: str
    source: str
    citation: str
    archives: tuple[str, ...]
    stored: str

    def to_json(self) -> dict[str, Any]:
        """Return the line as JSON."""
        return asdict(self)


def overview(registry: Registry, store: Store) -> list[Overview]:
    """Return a line for every dataset plugin, in the order of their names."""
    infos = [(features, features.info()) for features in store.datasets()]
    rows = []
    for plugin in sorted((p for p in registry.plugins if p.kind == "dataset"), key=lambda p: registry.shown_name(p)):
        name = registry.shown_name(plugin)
        card = getattr(plugin.factory, "card", None)
        if not isinstance(card, Card):
            card = Card(plugin.summary, 0, "", "", "", "", "")
        stored = [
            f"{len(features.index()) - info.n_unlisted} of {info.n_listed + info.n_absent}"
            for features, info in infos
            if Spec.parse(info.spec).name in (name, plugin.full_name)
        ]
        rows.append(
            Overview(
                name=name,
                title=card.title,
                n_tracks=card.n_tracks,
                labels=card.labels,
                license=card.license,
                source=card.source,
                citation=card.citation,
                archives=tuple(archive.url for archive in card.archives),
                stored=", ".join(stored),
            )
        )
    return rows


@dataclass(frozen=True)
class Description:
    """All that is known of a dataset before its audio is looked at."""

    name: str
    summary: str
    card: Card | None
    parameters: str
    schemes: Mapping[str, int]
    faults: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the description as JSON."""
        return asdict(self)

    def paragraphs(self) -> list[tuple[str, str]]:
        """Return headings and texts; what is not known is left out."""
        card = self.card
        texts = {self.name: card.title if card else self.summary}
        if card is not None:
            addresses = "\n".join(archive.url for archive in card.archives)
            texts |= {
                "Labels": card.labels,
                "Tracks": str(card.n_tracks) if card.n_tracks else "",
                "License": card.license,
                "Where to get it": "\n".join(filter(None, [card.source, addresses])),
                "Expected files": card.tree,
                "Checked": _checked(card),
                "Cite": card.citation,
            }
        texts["Parameters"] = self.parameters
        texts["Official folds"] = "\n".join(f"--folds {name}: {count} split(s)" for name, count in self.schemes.items())
        if self.faults:
            listed = "\n".join(f"{track}: {reason}" for track, reason in self.faults.items())
            texts[f"Known faults ({len(self.faults)}; --exclude known-faults leaves them out)"] = listed
        return [(heading, text.strip("\n")) for heading, text in texts.items() if text]


def describe(registry: Registry, spec: Spec) -> Description:
    """Return what a dataset plugin says of itself."""
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
    dataset = registry.create("dataset", spec)
    with plugin_code(f"{registry.find('dataset', spec.name).blame(spec)} fails"):
        card = getattr(dataset, "card", None)
    return card if isinstance(card, Card) else None


def _checked(card: Card) -> str:
    lines = []
    if card.rate is not None:
        lines.append(f"sampling rate {card.rate} Hz")
    if card.seconds is not None:
        lines.append(f"duration {card.seconds[0]:g} to {card.seconds[1]:g} s")
    lines.append("missing, unexpected, unreadable and truncated files, silence, clipping, duplicates, labels, groups")
    return "\n".join(lines)


def official_splits(
    registry: Registry, spec: Spec, recorded: Mapping[str, Any] | None = None
) -> Mapping[str, Sequence[Split]]:
    """Return the official splits of a dataset by their name for ``--folds``.

    Parameters
    ----------
    registry : Registry
    spec : Spec
    recorded : mapping, optional
        What the store says of the plugin that listed the dataset.

    Raises
    ------
    UnknownNameError
        If that plugin is not here; the message says what to install.
    PluginError
        If the plugin fails, or tells something else.
    """
    if recorded and "distribution" in recorded:
        registry.require("dataset", recorded, f"the dataset {spec} of the store")
    splits = dict(_ask(registry, spec, "schemes"))
    for name, folds in splits.items():
        if not isinstance(folds, Sequence) or not all(isinstance(fold, Split) for fold in folds):
            blamed = registry.find("dataset", spec.name).blame(spec)
            raise PluginError(f"{blamed}: schemes()[{name!r}] is {type(folds).__name__}; expected a sequence of Split")
    return splits


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
    dataset = registry.create("dataset", spec)
    with plugin_code(f"{plugin.blame(spec)} fails"):
        return dict(getattr(dataset, method, dict)())


def list_dataset(registry: Registry, spec: Spec, audio: Path | None, store: Store, progress: Progress) -> Listed:
    """Ask a dataset plugin for its tracks.

    Without ``audio``, a dataset that can synthesizes its own into the store; others take the folder that they were
    extracted from before.

    Raises
    ------
    DatasetError
        If the folder is missing or is not this dataset's, or the listing is not sound.
    PluginError
        If the plugin is unknown or fails.
    """
    plugin = registry.find("dataset", spec.name)
    dataset = registry.create("dataset", spec)
    name = str(spec) if plugin.distribution == HOST else plugin.blame(spec)
    with plugin_code(f"{plugin.blame(spec)} fails"):
        try:
            if audio is None:
                audio = _own_audio(dataset, spec, store, progress)
            if not audio.is_dir():
                what = "is not a folder" if audio.exists() else "does not exist"
                raise DatasetError(f"--audio {audio} {what}; give the folder that holds the audio of {spec}")
            listing: Listing = dataset.listing(audio)
            check_listing(listing, name)
        except OSError as error:
            raise DatasetError(f"cannot read the audio folder {audio}: {error.strerror or error}") from error
    for note in listing.notes:
        progress.note(note)
    return Listed(listing, audio)


def _own_audio(dataset: Any, spec: Spec, store: Store, progress: Progress) -> Path:
    """Return the folder of audio that a dataset synthesizes, or that it was extracted from before."""
    if hasattr(dataset, "synthesize"):
        store.create()
        audio = store.audio(spec)
        progress.note(f"synthesizing {spec.name} into {audio} ...")
        dataset.synthesize(audio)
        return audio
    if not store.dataset(spec).exists:
        raise DatasetError(f"the dataset {spec} needs its audio folder: --audio DIR")
    return Path(store.dataset(spec).info().audio)
