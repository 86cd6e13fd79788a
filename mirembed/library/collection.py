"""The tracks of a library with their embeddings, in columns: opening a hundred thousand takes a fraction of a second.

Importing this module and opening a collection load neither torch nor scikit-learn, and no network.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.file_tags import FileTags
from mirembed.audio.files import file_stamp, printable
from mirembed.errors import StoreError
from mirembed.hookspecs import Label, Regression, Tags, Task
from mirembed.library.distances import typical_distance
from mirembed.library.staleness import Staleness, Stamp, compare
from mirembed.models.saved import read_identity
from mirembed.progress import NO_PROGRESS, Progress
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.store import DatasetStore, Store
from mirembed.store.embeddings import vectors
from mirembed.store.recordings import absolute, real_path
from mirembed.store.rows import label_names
from mirembed.training.similarity import UNLEARNED, PluginSimilarity

_QUERIES = 16
"""Number of queries that are compared with all tracks at a time."""


@dataclass(frozen=True)
class FileTagColumns:
    """What the files of tracks say of themselves: one entry per track in each list. A list is read when it is used.

    Attributes
    ----------
    column : callable
        Returns the values of a field of `FileTags`.
    """

    column: Callable[[str], list[Any]]

    @classmethod
    def of(cls, tags: Sequence[FileTags]) -> FileTagColumns:
        """Return the file tags of tracks in columns."""
        return cls(lambda field: [getattr(one, field) for one in tags])

    @cached_property
    def titles(self) -> list[str | None]:
        """The title of each track."""
        return self.column("title")

    @cached_property
    def artists(self) -> list[tuple[str, ...]]:
        """The artists of each track, main artist first."""
        return self.column("artists")

    @cached_property
    def albums(self) -> list[str | None]:
        """The album of each track."""
        return self.column("album")

    @cached_property
    def album_artists(self) -> list[str | None]:
        """The artist of the album of each track."""
        return self.column("album_artist")

    @cached_property
    def genres(self) -> list[tuple[str, ...]]:
        """The genres of each track."""
        return self.column("genres")

    @cached_property
    def moods(self) -> list[tuple[str, ...]]:
        """The moods of each track."""
        return self.column("moods")

    @cached_property
    def years(self) -> list[int | None]:
        """The year of each track."""
        return self.column("year")

    @cached_property
    def ratings(self) -> list[float | None]:
        """The owner's rating of each track, from 0 to 1."""
        return self.column("rating")

    @cached_property
    def tracks(self) -> list[int | None]:
        """The number of each track on its disc."""
        return self.column("track")

    @cached_property
    def discs(self) -> list[int | None]:
        """The number of each track's disc."""
        return self.column("disc")


@dataclass(frozen=True)
class Collection:
    """The tracks of a dataset that a model has embedded, sorted by id. A row is the number of a track.

    Attributes
    ----------
    store : Store
    model : str
        Its name.
    folder : pathlib.Path
        Of the model.
    provenance : mapping
        How the model was made; see `mirembed.models.model.Model.provenance`.
    dataset : DatasetStore or None
        None for files that belong to none.
    spec : str
        The dataset, as given to ``--dataset``; empty for files that belong to none.
    audio : pathlib.Path
        The audio folder.
    task : Classification, Tags, Regression or None
        Of the labels.
    ids, recordings : list of str
    vectors : ndarray [n_tracks, units], float32
    without_embeddings : list of str
        Ids of the listed tracks that are not among these rows.
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
    ids: list[str]
    recordings: list[str]
    vectors: NDArray[np.float32]
    without_embeddings: list[str]

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
            Gets a note for everything that is stale.

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
        embedded = store.embeddings(folder.name).table(provenance["digest"], ["vector"])
        table = found.columns("id", "recording", "listed")
        known = {recording: row for row, recording in enumerate(embedded["recording"].to_pylist())}
        ids, recordings = table["id"].to_pylist(), table["recording"].to_pylist()
        places = [known.get(recording, -1) for recording in recordings]
        listed = table["listed"].to_pylist()
        rows = [row for row, place in enumerate(places) if place >= 0 and listed[row]]
        lacking = [ids[row] for row, place in enumerate(places) if place < 0 and listed[row]]
        if len(rows) < len(ids):
            ids, recordings, places = ([values[row] for row in rows] for values in (ids, recordings, places))
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
            ids=ids,
            recordings=recordings,
            vectors=vectors(embedded)[places],
            without_embeddings=lacking,
        )
        if not rows:
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
        """Return files that need not belong to a dataset, and whose ids are their printable paths.

        Parameters
        ----------
        store : Store
        registry : Registry
        model : str
            The folder of a model, or its name in the store.
        audio : pathlib.Path
            The folder that they are in.
        paths : sequence of pathlib.Path
        recordings : sequence of str
        vectors : ndarray [n_files, units], float32
        audio_hashes, durations, file_tags : sequence
            One entry per file, or nothing where they are not known.

        Raises
        ------
        ModelError
            There is no such model.
        """
        folder, provenance = read_identity(store.models, model)
        names = [printable(path) for path in paths]
        found = cls(
            store=store,
            registry=registry,
            model=folder.name,
            folder=folder,
            provenance=provenance,
            dataset=None,
            spec="",
            audio=audio,
            task=None,
            ids=names,
            recordings=list(recordings),
            vectors=vectors,
            without_embeddings=[],
        )
        nothing = [None] * len(names)
        vars(found).update(  # in place of what would be read from the store
            paths=[absolute(path) for path in paths],
            stamps=[file_stamp(path) for path in paths],
            audio_hashes=list(audio_hashes) or nothing,
            durations=np.array(list(durations) or nothing, np.float64),
            file_tags=FileTagColumns.of(file_tags or [FileTags()] * len(names)),
            staleness=Staleness("", str(audio)),
        )
        return found

    @property
    def _dataset(self) -> DatasetStore:
        assert self.dataset is not None  # noqa: S101 (all that reads it is given otherwise)
        return self.dataset

    def __len__(self) -> int:
        return len(self.ids)

    def path(self, row: int) -> Path:
        """Return the file of a track, also one whose name is not UTF-8."""
        return real_path(self.paths[row])

    def is_present(self, row: int) -> bool:
        """Whether the file of a track exists at this moment."""
        return self.path(row).is_file()

    def is_unchanged(self, row: int) -> bool:
        """Whether the file of a track exists and has the size and modification time that it had when it was read."""
        return file_stamp(self.path(row)) == self.stamps[row]

    @cached_property
    def paths(self) -> list[str]:
        """The files, absolute and printable; `path` gives the path of a file itself."""
        [paths] = self._of_tracks("path")
        return paths

    @cached_property
    def stamps(self) -> list[Stamp]:
        """Size and modification time of each file when it was last read."""
        return list(zip(*self._of_tracks("file_size", "file_mtime_ns"), strict=True))

    @cached_property
    def audio_hashes(self) -> list[str | None]:
        """Digest of the decoded samples of each track, where it is known."""
        return self._of_recordings("audio_hash")

    @cached_property
    def durations(self) -> NDArray[np.float64]:
        """Seconds of each track ``[n_tracks]``; NaN where it is not known."""
        return np.array(self._of_recordings("duration"), np.float64)

    def _of_tracks(self, *names: str) -> list[list[Any]]:
        """Read columns of the table of tracks; another process may have changed it since."""
        table = self._dataset.columns("id", *names)
        known = table["id"].to_pylist()
        return [_aligned(self.ids, known, table[name].to_pylist()) for name in names]

    def _of_recordings(self, name: str) -> list[Any]:
        table = self.store.embeddings(self.model).table(self.provenance["digest"], [name])
        return _aligned(self.recordings, table["recording"].to_pylist(), table[name].to_pylist())

    @cached_property
    def staleness(self) -> Staleness:
        """How the library differs from these rows, as far as a quick look shows."""
        of_model = Spec.parse(self.provenance["dataset"]["spec"]) == Spec.parse(self.spec)
        command = f"mirembed update {self.model}" + ("" if of_model else f" --dataset {self.spec}")
        return compare(self._dataset, self.audio, command, self.without_embeddings)

    @cached_property
    def typical_distance(self) -> float:
        """The unit of distances between embeddings: see `mirembed.library.distances.typical_distance`."""
        return typical_distance(self.vectors)

    @cached_property
    def file_tags(self) -> FileTagColumns:
        """What the files say of themselves, from the last update."""
        return FileTagColumns(functools.partial(_read_field, self._dataset, self.ids))

    @cached_property
    def labels(self) -> list[Label | None]:
        """The label of each track."""
        if self.task is None:
            return [None] * len(self)
        return _labels(self._of_tracks(*label_names(self.task)), self.task)

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
        for first in range(0, len(query), _QUERIES):  # what is needed in between is several times as large
            some = slice(first, first + _QUERIES)
            found[some] = self._plugin.ranking_similarities(query[some], self.vectors)
        return found

    @cached_property
    def _plugin(self) -> PluginSimilarity:
        return PluginSimilarity.create(self.registry, self.similarity)


def learned_similarity(provenance: Mapping[str, Any], registry: Registry) -> Spec | None:
    """Return the similarity that a model learned, by its full name if another plugin has the short one now.

    None for a model that learned none.

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


def _aligned(names: Sequence[str], known: Sequence[str], values: list[Any]) -> list[Any]:
    """Return the values that a table has for some names, from its columns of names and values; None if it has none."""
    if names == known:
        return values
    of_name = dict(zip(known, values, strict=True))
    return [of_name.get(name) for name in names]


def _read_field(dataset: DatasetStore, ids: Sequence[str], field: str) -> list[Any]:
    """Return a field of the file tags of some tracks."""
    table = dataset.file_tags(["id", field])
    column = table[field].combine_chunks()
    if not hasattr(column, "offsets"):
        return _aligned(ids, table["id"].to_pylist(), column.to_pylist())
    texts, offsets = column.values.to_pylist(), column.offsets.to_pylist()
    lists = [tuple(texts[first:last]) for first, last in itertools.pairwise(offsets)]
    return [found or () for found in _aligned(ids, table["id"].to_pylist(), lists)]
