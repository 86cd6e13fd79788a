"""What is in a store: its datasets, models and runs, and how far they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mirembed.errors import StoreError
from mirembed.progress import counted
from mirembed.store.features import FeatureStore
from mirembed.store.files import is_held, read_json
from mirembed.store.root import Store

DAMAGED = "damaged"
"""The state of what cannot be read; `mirembed.inventory.verify` says why."""


@dataclass(frozen=True)
class DatasetContents:
    """One dataset of a store.

    Attributes
    ----------
    dataset : str
        As given to ``--dataset``.
    state : {"complete", "incomplete", "being written", "damaged"}
        Incomplete: tracks that are listed are neither stored nor failed.
    tracks, listed, failures : int
    absent, unlisted : int
        Annotated tracks without audio, and tracks that are kept although no longer listed.
    hours : float
        Of music.
    bytes, shards : int
        Of the spectrograms.
    backends : dict of str to int
        Tracks by what computed them, see `SpectrogramRow.backend`.
    embeddings : list of str
        Models with a table of embeddings.
    """

    dataset: str
    state: str
    tracks: int = 0
    listed: int = 0
    failures: int = 0
    absent: int = 0
    unlisted: int = 0
    hours: float = 0.0
    bytes: int = 0
    shards: int = 0
    backends: dict[str, int] | None = None
    embeddings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelContents:
    """One model of a store.

    Attributes
    ----------
    model : str
        Its name.
    state : {"complete", "damaged"}
    dataset, approach : str
    tracks : int
        That it was fitted to.
    bytes : int
    """

    model: str
    state: str
    dataset: str = ""
    approach: str = ""
    tracks: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class RunContents:
    """One run of a store, or an experiment of several.

    Attributes
    ----------
    run : str
        Its name; of a member, with the experiment's.
    state : {"finished", "going on", "interrupted", "damaged"}
    dataset : str
        Empty for an experiment.
    approaches : list of str
    folds : str
        In a few words: ``10 stratified folds``.
    epochs : int or None
    seeds : list of int
    metric : str
        That of the `scores`: ``accuracy`` or ``r``.
    scores : dict of str to float
        Of each method the mean over the folds; empty before the end.
    started : str
        UTC, ISO 8601.
    bytes : int
    members : tuple of RunContents
        The evaluations of an experiment, as far as they have begun.
    """

    run: str
    state: str
    dataset: str = ""
    approaches: tuple[str, ...] = ()
    folds: str = ""
    epochs: int | None = None
    seeds: tuple[int, ...] = ()
    metric: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    started: str = ""
    bytes: int = 0
    members: tuple[RunContents, ...] = ()

    def describe(self) -> str:
        """Return what tells the run from others: folds, epochs, several seeds, and scores or the state."""
        if self.members:
            return f"{self.state} experiment of {counted(len(self.members), 'evaluation')}"
        if self.epochs is None:
            return self.state
        seeds = [counted(len(self.seeds), "seed")] * (len(self.seeds) > 1)
        found = [self.folds, counted(self.epochs, "epoch"), *seeds]
        return ", ".join([*found, f"{self.metric} {self.told_scores()}" if self.scores else self.state])

    def told_scores(self) -> str:
        """Return the approaches, each with its score where there is one: ``nn 0.417, rbf-sl 0.583``."""
        return ", ".join(f"{name} {mean:.3f}" for name, mean in self.scores.items()) or ", ".join(self.approaches)


@dataclass(frozen=True)
class Contents:
    """All of a store."""

    datasets: list[DatasetContents]
    models: list[ModelContents]
    runs: list[RunContents]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return asdict(self)


def contents(store: Store) -> Contents:
    """Return what is in a store. What cannot be read is listed as damaged."""
    models = sorted(path.parent for path in store.models.glob("[!.]*/model.json"))
    runs = sorted(path.parent for path in store.runs.glob("*/manifest.json"))
    return Contents(
        [_dataset(features) for features in store.datasets()],
        [_model(folder) for folder in models],
        [run_contents(folder, folder.name) for folder in runs],
    )


def size(folder: Path) -> int:
    """Return the bytes of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _dataset(features: FeatureStore) -> DatasetContents:
    import pyarrow.compute as pc

    try:
        info, index, failures = features.info(), features.index(), features.failures()
    except StoreError:
        return DatasetContents(features.folder.name, DAMAGED)
    held = is_held(features.folder)
    complete = len(index) - info.n_unlisted + len(failures) >= info.n_listed
    shards = features.shards()
    backends = Counter(index["backend"].to_pylist() if "backend" in index.column_names else [])
    return DatasetContents(
        dataset=info.spec,
        state="being written" if held else "complete" if complete else "incomplete",
        tracks=len(index),
        listed=info.n_listed,
        failures=len(failures),
        absent=info.n_absent,
        unlisted=info.n_unlisted,
        hours=(pc.sum(index["duration"]).as_py() or 0.0) / 3600 if len(index) else 0.0,
        bytes=sum(shard.stat().st_size for shard in shards),
        shards=len(shards),
        backends={backend or "unknown": count for backend, count in sorted(backends.items(), key=str)},
        embeddings=tuple(path.stem for path in sorted(features.embeddings.glob("*.parquet"))),
    )


def _model(folder: Path) -> ModelContents:
    try:
        provenance: Mapping[str, Any] = read_json(folder / "model.json")["provenance"]
        dataset = provenance["dataset"]
        return ModelContents(
            folder.name,
            "complete",
            dataset=dataset["spec"],
            approach=provenance["approach"],
            tracks=dataset["n_tracks"],
            bytes=size(folder),
        )
    except (StoreError, KeyError, TypeError):
        return ModelContents(folder.name, DAMAGED)


def run_contents(folder: Path, name: str) -> RunContents:
    """Return what a run says of itself; one that cannot be read is damaged."""
    try:
        manifest = read_json(folder / "manifest.json")
        configuration = manifest["configuration"]
        members = [member for member in configuration.get("grid", []) if (folder / member / "manifest.json").exists()]
        return RunContents(
            name,
            "finished" if manifest["finished"] else "going on" if is_held(folder) else "interrupted",
            dataset=configuration.get("dataset", {}).get("spec", ""),
            approaches=tuple(configuration.get("approaches", ())),
            **_settings(folder, configuration),
            started=manifest.get("started", ""),
            bytes=size(folder),
            members=tuple(run_contents(folder / member, f"{name}/{member}") for member in members),
        )
    except (StoreError, KeyError, TypeError, ValueError, AttributeError):
        return RunContents(name, DAMAGED)


def _settings(folder: Path, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells the runs of a dataset from one another; nothing of an experiment, whose members have it."""
    if "grid" in configuration:
        return {}
    metric = "accuracy" if configuration["task"]["kind"] == "classification" else "r"
    path = folder / "scores.json"
    scores = read_json(path) if path.exists() else {}
    return {
        "folds": _describe_folds(configuration),
        "epochs": configuration["epochs"],
        "seeds": tuple(configuration["seeds"]),
        "metric": metric,
        "scores": {method: float(values[metric]["mean"]) for method, values in scores.items()},
    }


def _describe_folds(configuration: Mapping[str, Any]) -> str:
    scheme, number, splits = configuration["folds"], configuration["cv"], configuration.get("splits")
    if splits is not None:
        return counted(splits, f"{scheme} split")
    return f"official folds {scheme}" if number is None else f"{number} {scheme} folds"
