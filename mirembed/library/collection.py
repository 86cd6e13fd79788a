"""The tracks of a library with their embeddings, in columns. Opening 100 000 of them takes a fraction of a second.

Importing this module or opening a collection loads neither torch nor scikit-learn, nor a network.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.file_tags import FileTags
from mirembed.audio.files import file_stamp, printable
from mirembed.errors import StoreError
from mirembed.hookspecs import Label, Regression, Tags, Task
from mirembed.library.index import Index, make_index, open_index
from mirembed.library.staleness import Staleness, Stamp, compare
from mirembed.models.saved import read_identity
from mirembed.progress import NO_PROGRESS, Progress
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import DatasetStore, Store
from mirembed.store.recordings import absolute, real_path
from mirembed.store.rows import label_names
from mirembed.training.similarity import UNLEARNED, PluginSimilarity

_QUERIES = 16
"""Number of queries that are compared with all tracks at a time."""


@dataclass(frozen=True)
class Collection:
    """The tracks of a dataset that a model has embedded, sorted by id. A row is the position of a track.

    Attributes
    ----------
    store : Store
    registry : Registry
    model : str
        Name of the model.
    folder : pathlib.Path
        Folder of the model.
    provenance : mapping
        How the model was made; see `mirembed.models.model.Model.provenance`.
    dataset : DatasetStore or None
        None for files without a dataset.
    spec : str
        The dataset, as given to ``--dataset``; empty for files without a dataset.
    audio : pathlib.Path
        The audio folder.
    task : Classification, Tags, Regression or None
        The task of the dataset.
    index : Index
        Everything known about the tracks, in columns.
    """

    store: Store
    registry: Registry
    model: str
    folder: Path
    provenance: Mapping[str, Any]
    dataset: DatasetStore | None
    spec: str
    audio: Path
    task: Task | None
    index: Index

    @classmethod
    def open(
        cls,
        store: Store,
        registry: Registry,
        model: str,
        dataset: Spec | None = None,
        progress: Progress = NO_PROGRESS,
    ) -> Collection:
        """Read the tracks of a dataset and their embeddings.

        Parameters
        ----------
        store : Store
        registry : Registry
        model : str
            The folder of a model, or its name in the store.
        dataset : Spec, optional
            Default: the one that the model was fitted to.
        progress : Progress, optional
            Receives a note for everything that is stale.

        Raises
        ------
        ModelError
            There is no such model.
        StoreError
            The store does not have the dataset, none of its tracks has an embedding, or a table is damaged.
        """
        folder, provenance = read_identity(store.models, model)
        found = store.find(dataset or Spec.parse(provenance["dataset"]["spec"]))
        info = found.info()
        index = open_index(store, found, info.task, folder.name, provenance["digest"])
        collection = cls(
            store=store,
            registry=registry,
            model=folder.name,
            folder=folder,
            provenance=provenance,
            dataset=found,
            spec=info.spec,
            audio=Path(info.audio),
            task=info.task,
            index=index,
        )
        if not len(index.table):
            raise StoreError(
                f"the store {store.root} has no embeddings of {info.spec} by the model {folder.name}; run "
                f"`{collection.staleness.command}`"
            )
        for note in collection.staleness.notes():
            progress.note(note)
        return collection

    @classmethod
    def of_files(
        cls,
        store: Store,
        registry: Registry,
        model: str,
        audio: Path,
        paths: Sequence[Path],
        recordings: Sequence[str],
        vectors: NDArray[np.float32],
        *,
        audio_hashes: Sequence[str | None] = (),
        durations: Sequence[float | None] = (),
        file_tags: Sequence[FileTags] = (),
    ) -> Collection:
        """Return a collection of files without a dataset; their ids are their printable paths.

        Parameters
        ----------
        store : Store
        registry : Registry
        model : str
            The folder of a model, or its name in the store.
        audio : pathlib.Path
            The folder that contains them.
        paths : sequence of pathlib.Path
        recordings : sequence of str
        vectors : ndarray [n_files, units], float32
        audio_hashes, durations, file_tags : sequence
            One entry per file; empty if unknown.

        Raises
        ------
        ModelError
            There is no such model.
        """
        folder, provenance = read_identity(store.models, model)
        stamps = [file_stamp(path) for path in paths]
        columns: dict[str, Sequence[Any]] = {
            "id": [printable(path) for path in paths],
            "recording": recordings,
            "path": [absolute(path) for path in paths],
            "file_size": [size for size, _ in stamps],
            "file_mtime_ns": [mtime for _, mtime in stamps],
        }
        known = {"audio_hash": audio_hashes, "duration": durations}
        columns |= {name: values for name, values in known.items() if values}
        if file_tags:
            columns |= {field.name: [getattr(tags, field.name) for tags in file_tags] for field in fields(FileTags)}
        return cls(
            store=store,
            registry=registry,
            model=folder.name,
            folder=folder,
            provenance=provenance,
            dataset=None,
            spec="",
            audio=audio,
            task=None,
            index=make_index(columns, vectors),
        )

    def __len__(self) -> int:
        return len(self.index.table)

    @cached_property
    def ids(self) -> list[str]:
        """The id of each track."""
        return self.index.values("id")

    @cached_property
    def recordings(self) -> list[str]:
        """The recording of each track."""
        return self.index.values("recording")

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The embeddings ``[n_tracks, units]``, read-only."""
        return self.index.vectors

    def path(self, row: int) -> Path:
        """Return the file of a track, even if its name is not UTF-8."""
        return real_path(self.index.value("path", row))

    def is_present(self, row: int) -> bool:
        """Whether the file of a track exists at this moment."""
        return os.path.isfile(self.path(row))  # noqa: PTH113 (unlike Path.is_file, it never raises)

    def is_unchanged(self, row: int) -> bool:
        """Whether the file of a track exists and has the size and modification time that it had when it was read."""
        stamp = self.index.value("file_size", row), self.index.value("file_mtime_ns", row)
        return file_stamp(self.path(row)) == stamp

    @cached_property
    def paths(self) -> list[str]:
        """The file of each track, as an absolute printable path; `path` returns the real one."""
        return self.index.values("path")

    @cached_property
    def stamps(self) -> list[Stamp]:
        """Size and modification time of each file when it was last read."""
        return list(zip(self.index.values("file_size"), self.index.values("file_mtime_ns"), strict=True))

    @cached_property
    def audio_hashes(self) -> list[str | None]:
        """Digest of the decoded samples of each track; None if unknown."""
        return self.index.values("audio_hash")

    @cached_property
    def durations(self) -> NDArray[np.float64]:
        """Duration of each track ``[n_tracks]`` in seconds; NaN if unknown."""
        return self.index.numbers("duration")

    @cached_property
    def staleness(self) -> Staleness:
        """How the library differs from these rows, as far as can be found out quickly."""
        if self.dataset is None:
            return Staleness("", str(self.audio))
        of_model = Spec.parse(self.provenance["dataset"]["spec"]) == Spec.parse(self.spec)
        command = f"mirembed update {self.model}" + ("" if of_model else f" --dataset {self.spec}")
        return compare(self.dataset, self.audio, command, self.index.without_embeddings)

    @property
    def typical_distance(self) -> float:
        """The unit of distances between embeddings: see `mirembed.library.distances.typical_distance`."""
        return self.index.typical_distance

    def tags(self, row: int) -> FileTags:
        """Return the file tags of one track; for a few tracks, this is faster than `file_tags`."""
        return FileTags(**{field.name: self.index.value(field.name, row) for field in fields(FileTags)})

    @cached_property
    def labels(self) -> list[Label | None]:
        """The label of each track."""
        if self.task is None:
            return [None] * len(self)
        return _labels([self.index.values(f"label:{name}") for name in label_names(self.task)], self.task)

    @cached_property
    def similarity(self) -> Spec:
        """The similarity that the model learned; cosine if it learned none."""
        return learned_similarity(self.provenance, self.registry) or UNLEARNED

    def similarities(self, query: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the similarities of vectors to all tracks, by the similarity that the model learned.

        Parameters
        ----------
        query : ndarray [units] or [n_queries, units], float32

        Returns
        -------
        ndarray [n_tracks] or [n_queries, n_tracks], float64
        """
        if query.ndim == 1:
            return np.asarray(self._plugin.ranking_similarities(query, self.vectors), np.float64)
        found = np.empty((len(query), len(self)))
        for first in range(0, len(query), _QUERIES):  # intermediate arrays are several times as large
            some = slice(first, first + _QUERIES)
            found[some] = self._plugin.ranking_similarities(query[some], self.vectors)
        return found

    @cached_property
    def _plugin(self) -> PluginSimilarity:
        return PluginSimilarity.create(self.registry, self.similarity)


def learned_similarity(provenance: Mapping[str, Any], registry: Registry) -> Spec | None:
    """Return the similarity that a model learned; None if it learned none.

    It has its full name if another plugin has the short one now.

    Raises
    ------
    UnknownNameError
        Its plugin is missing.
    """
    entry = provenance["settings"]["approaches"].get(provenance["approach"], {})
    if "similarity" not in entry:
        return None
    spec = Spec.parse(entry["similarity"]["spec"])
    plugin = registry.require("similarity", entry["similarity"], f"the model {provenance['name']}")
    return Spec(registry.shown_name(plugin), spec.parameters)


def _labels(columns: Sequence[list[Any]], task: Task) -> list[Label | None]:
    """Return labels from the columns of a table of tracks."""
    if isinstance(task, Regression):
        return [None if None in values else values for values in zip(*columns, strict=True)]
    if isinstance(task, Tags):
        return [None if tags is None else frozenset(tags) for tags in columns[0]]
    return columns[0]
