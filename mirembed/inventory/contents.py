"""What a store holds: its datasets, models and runs, and the state of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mirembed.errors import StoreError
from mirembed.models.saved import ModelSummary, list_models, summarize_model
from mirembed.runs.folder import list_runs
from mirembed.runs.summary import RunSummary, summarize
from mirembed.store.features import FeatureStore
from mirembed.store.files import is_held
from mirembed.store.root import Store


@dataclass(frozen=True)
class DatasetSummary:
    """One dataset of a store.

    Attributes
    ----------
    dataset : str
        As given to ``--dataset``.
    state : {"complete", "incomplete", "being written", "damaged"}
        Incomplete: some listed tracks are neither stored nor failed.
    tracks, listed, failures : int
    absent, unlisted : int
        Annotated tracks without audio, and tracks that are kept although no longer listed.
    hours : float
        Of music.
    bytes, shards : int
        Of the spectrograms.
    backends : mapping of str to int
        Number of tracks by the backend that computed them, see `SpectrogramRow.backend`.
    embeddings : tuple of str
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
    backends: Mapping[str, int] = field(default_factory=dict)
    embeddings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contents:
    """Everything in a store."""

    datasets: list[DatasetSummary]
    models: list[ModelSummary]
    runs: list[RunSummary]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return asdict(self)


def contents(store: Store) -> Contents:
    """List what is in a store. What cannot be read is listed as damaged."""
    return Contents(
        [_summarize_dataset(features) for features in store.datasets()],
        [summarize_model(folder) for folder in list_models(store.models)],
        [summarize(run) for run in list_runs(store.runs)],
    )


def _summarize_dataset(features: FeatureStore) -> DatasetSummary:
    import pyarrow.compute as pc

    try:
        info, index, failures = features.info(), features.index(), features.failures()
    except StoreError:
        return DatasetSummary(features.folder.name, "damaged")
    complete = len(index) - info.n_unlisted + len(failures) >= info.n_listed
    shards = features.shards()
    backends = Counter(index["backend"].to_pylist() if len(index) else [])
    return DatasetSummary(
        dataset=info.spec,
        state="being written" if is_held(features.folder) else "complete" if complete else "incomplete",
        tracks=len(index),
        listed=info.n_listed,
        failures=len(failures),
        absent=info.n_absent,
        unlisted=info.n_unlisted,
        hours=(pc.sum(index["duration"]).as_py() or 0.0) / 3600 if len(index) else 0.0,
        bytes=sum(shard.stat().st_size for shard in shards),
        shards=len(shards),
        backends=dict(sorted(backends.items())),
        embeddings=tuple(path.stem for path in sorted(features.embeddings.glob("*.parquet"))),
    )
