"""`mirembed.Store`: what a store contains, as tables and arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mirembed.api.results import Embeddings
from mirembed.api.tables import TableResult, facts_html
from mirembed.api.words import PathLike, StoreLike, dataset_of, path_of, store_of, text_of
from mirembed.errors import StoreError
from mirembed.store import DatasetStore, FeatureShards
from mirembed.store import Store as StoreFolder
from mirembed.store.embeddings import vectors
from mirembed.store.root import require_store
from mirembed.store.rows import label_names

if TYPE_CHECKING:
    import pyarrow as pa

    from mirembed.hookspecs import Task

_AT_ONCE = 64
"""Recordings whose frames are read together."""


class Store(os.PathLike[str]):
    """A store: the features, datasets, embeddings, models and runs in a folder. Reading changes nothing in it.

    Parameters
    ----------
    path : path, optional
        Default: the environment variable MIREMBED_STORE, or else ``mirembed-store`` in the current folder.

    Raises
    ------
    StoreError
        There is no store in the folder, or it has another version.
    """

    def __init__(self, path: StoreLike = None) -> None:
        self._store = store_of(path)
        require_store(self.path)

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def path(self) -> Path:
        """The folder."""
        return self._store.root

    @property
    def datasets(self) -> list[str]:
        """The datasets, as `mirembed.fit` takes them."""
        return [dataset.info().spec for dataset in self._store.datasets()]

    @property
    def models(self) -> list[str]:
        """The names of the models, which `mirembed.load` takes."""
        from mirembed.models.saved import list_models

        return [folder.name for folder in list_models(self._store.models)]

    @property
    def runs(self) -> list[str]:
        """The names of the runs, finished or not, which `mirembed.open_run` takes."""
        from mirembed.runs.folder import list_runs

        return [run.folder.name for run in list_runs(self._store.runs)]

    def task(self, dataset: str | None = None) -> Task | None:
        """Return the task of a dataset, which says what its labels are; None if it has none.

        Parameters
        ----------
        dataset : str, optional
            Default: the only one of the store.
        """
        return self._store.find(dataset_of(dataset)).info().task

    def tracks(self, dataset: str | None = None) -> pa.Table:
        """Return the tracks of a dataset, sorted by id.

        Parameters
        ----------
        dataset : str, optional
            Default: the only one of the store.

        Returns
        -------
        pyarrow.Table
            id; label (a class, or a list of tags), or a column for each target; group; path; recording (what
            identifies the bytes of the file; null until it was read); listed (whether the dataset still lists it).

        Raises
        ------
        StoreError
            The store does not have the dataset, or the table is damaged.
        """
        return _tracks(self._store.find(dataset_of(dataset)))

    def features(self, dataset: str | None = None, features: str | None = None) -> Frames:
        """Return the frames of the tracks of a dataset, which are read one by one.

        Parameters
        ----------
        dataset : str, optional
            Default: the only one of the store.
        features : str, optional
            Default: the only ones that the dataset was extracted with.

        Raises
        ------
        StoreError
            The store does not have the dataset or the features.
        """
        found = self._store.find(dataset_of(dataset))
        info = found.info()
        given = None if features is None else text_of("features", features)
        if given not in info.features and not (given is None and len(info.features) == 1):
            listed = ", ".join(info.features) or "no features"
            problem = f"not {given}" if given is not None else "give the features"
            raise StoreError(f"the store {self.path} has {listed} of {info.spec}; {problem}")
        name = next(iter(info.features)) if given is None else given
        return Frames(found, FeatureShards(self.path / "features" / info.features[name]), name)

    def embeddings(self, model: PathLike, dataset: str | None = None) -> Embeddings:
        """Return the embeddings of the tracks of a dataset by a model, as far as the store has them.

        Parameters
        ----------
        model : path
            The name of a model in the store, or its folder.
        dataset : str, optional
            Default: the one that the model was fitted to.

        Raises
        ------
        ModelError
            There is no such model.
        StoreError
            The store does not have the dataset.
        """
        return stored_embeddings(self._store, path_of("model", model), dataset)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def _repr_html_(self) -> str:
        lists = (("datasets", self.datasets), ("models", self.models), ("runs", self.runs))
        return facts_html([("store", str(self.path)), *lists])


class Frames(TableResult, Mapping[str, NDArray[np.float32]]):
    """The frames of tracks by id: a mapping to ndarray ``[n_frames, values]``, float32, read from the store when used.

    Attributes
    ----------
    name : str
        Of the features.
    hop : float or None
        Seconds from frame to frame; None if each track has a single frame.
    values_per_frame : int
    table : pyarrow.Table
        The tracks that have these features: the columns of `Store.tracks`, n_frames, duration (seconds) and rate (Hz).
    """

    def __init__(self, dataset: DatasetStore, shards: FeatureShards, name: str) -> None:
        part = shards.part()
        self.name, self.hop, self.values_per_frame = name, part.hop, part.values
        self._dataset, self._shards = dataset, shards

    @cached_property
    def table(self) -> pa.Table:
        """See `Frames`."""
        import pyarrow as pa

        facts = self._shards.columns("n_frames", "duration", "rate")
        tracks = _tracks(self._dataset)
        recordings = tracks["recording"].to_pylist()
        rows = [row for row, recording in enumerate(recordings) if recording in facts]
        table = tracks.take(pa.array(rows, pa.int64()))
        for position, (column, kind) in enumerate(
            {"n_frames": pa.int64(), "duration": pa.float64(), "rate": pa.int64()}.items()
        ):
            table = table.append_column(column, pa.array([facts[recordings[row]][position] for row in rows], kind))
        return table

    @cached_property
    def _recordings(self) -> dict[str, str]:
        return dict(zip(self.table["id"].to_pylist(), self.table["recording"].to_pylist(), strict=True))

    def __getitem__(self, track: str) -> NDArray[np.float32]:
        return next(self.stream([track]))[1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._recordings)

    def __len__(self) -> int:
        return len(self._recordings)

    def stream(self, tracks: Sequence[str] | None = None) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield tracks with their frames, in order, with little memory; faster than one by one.

        Parameters
        ----------
        tracks : sequence of str, optional
            Ids. Default: all.

        Raises
        ------
        StoreError
            Frames are removed from the store in the meantime.
        """
        wanted = list(self if tracks is None else tracks)
        for first in range(0, len(wanted), _AT_ONCE):
            some = wanted[first : first + _AT_ONCE]
            frames = dict(self._shards.frames_of({self._recordings[track] for track in some}))
            for track in some:
                if (found := frames.get(self._recordings[track])) is None:
                    raise StoreError(f"{self._shards.folder} changed while it was being read; run the same call again")
                yield track, np.array(found)


def _tracks(dataset: DatasetStore) -> pa.Table:
    names = ("id", *label_names(dataset.info().task), "group", "path", "recording", "listed")
    return dataset.columns(*names)


def stored_embeddings(store: StoreFolder, model: Path, dataset: Any) -> Embeddings:
    """Return the embeddings of the tracks of a dataset by a model; see `Store.embeddings`."""
    import pyarrow as pa

    from mirembed.models.saved import read_identity
    from mirembed.specs import Spec

    folder, provenance = read_identity(store.models, str(model))
    tracks = _tracks(store.find(dataset_of(dataset) or Spec.parse(provenance["dataset"]["spec"])))
    stored = store.embeddings(folder.name).table(provenance["digest"], ["vector", "in_sample"])
    latest = {recording: row for row, recording in enumerate(stored["recording"].to_pylist())}
    recordings = tracks["recording"].to_pylist()
    rows = [row for row, recording in enumerate(recordings) if recording in latest]
    of_tracks = pa.array([latest[recordings[row]] for row in rows], pa.int64())
    table = tracks.take(pa.array(rows, pa.int64())).append_column("in_sample", stored["in_sample"].take(of_tracks))
    found = vectors(stored)[of_tracks.to_pylist()] if len(stored) else np.zeros((0, 1), np.float32)
    return Embeddings(table, found)
