"""A map of a library: a point for each track, close to those of similar tracks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.files import file_stamp
from mirembed.errors import MirembedError, StoreError
from mirembed.hookspecs import Label, Regression, Tags, Task
from mirembed.interruption import interruptible
from mirembed.library.collection import Collection
from mirembed.library.nearest import nearest
from mirembed.library.projection import (
    UMAP_NEIGHBORS,
    Trustworthiness,
    principal_components,
    trustworthiness,
    umap_positions,
)
from mirembed.models.base import AnyModel
from mirembed.models.combined import load_model
from mirembed.progress import NO_PROGRESS, Progress, counted
from mirembed.store.files import write_table
from mirembed.store.rows import label_names

NEIGHBORS = 10
"""Neighbors that the map lists for each track."""

MANY_TRACKS = 100_000
"""A page with more tracks is slow."""

_AT_ONCE = 4096
"""Tracks that are predicted at once."""

FOLDER = "folder"
"""Name of the column that the page derives from the paths."""

_COLORS = ("label", "genre", "prediction", "mood", "artist")
"""Columns that color the map at first, in order of preference."""

Texts: TypeAlias = list[tuple[str, ...]]
"""The texts of each track, which may be none."""


@dataclass(frozen=True)
class Column:
    """A property of the tracks that can color the map.

    Attributes
    ----------
    name : str
    values : list of tuple of str, or ndarray [n_tracks], float64
        Texts, or numbers; an unknown number is NaN.
    """

    name: str
    values: Texts | NDArray[np.float64]


@dataclass(frozen=True)
class LibraryMap:
    """The tracks on a map. Each sequence has one entry per track.

    Attributes
    ----------
    model, dataset : str
    audio : str
        The audio folder.
    ids, paths : list of str
        Paths are printable; files whose names are not UTF-8 have an entry in ``urls``.
    urls : dict of int to str
        URLs of files by row.
    titles, albums : list of str or None
    durations : ndarray [n_tracks], float64
        Seconds; NaN if unknown.
    columns : list of Column
        Columns with a value for at least one track.
    color : str
        Name of the column that colors the map at first, or `FOLDER`.
    positions : ndarray [n_tracks, 2], float64
    neighbors : ndarray [n_tracks, k], int32
        Rows of the most similar tracks, by descending similarity.
    similarities : ndarray [n_tracks, k], float64
    similarity : str
        Spec of the similarity that ranks them.
    method : {"pca", "umap"}
    explained : ndarray [2], float64, or None
        Share of the variance that each axis explains; None for UMAP.
    trust : Trustworthiness or None
        None if there are too few tracks to measure it.
    missing : int
        Number of tracks that are left out because their files are missing.
    trained_on : int
        Number of tracks that the model was fitted to.
    """

    model: str
    dataset: str
    audio: str
    ids: list[str]
    paths: list[str]
    urls: dict[int, str]
    titles: list[str | None]
    albums: list[str | None]
    durations: NDArray[np.float64]
    columns: list[Column]
    color: str
    positions: NDArray[np.float64]
    neighbors: NDArray[np.int32]
    similarities: NDArray[np.float64]
    similarity: str
    method: str
    explained: NDArray[np.float64] | None
    trust: Trustworthiness | None
    missing: int
    trained_on: int

    def __len__(self) -> int:
        return len(self.ids)

    def column(self, name: str) -> Column | None:
        """Return a column; None if the map does not have it."""
        return next((column for column in self.columns if column.name == name), None)

    def notes(self) -> list[str]:
        """Return what readers of the map should know, in one or two sentences each."""
        notes = ["According to the model, tracks that are near each other are similar. The axes have no meaning."]
        if self.explained is not None:
            notes.append(
                f"Placed by PCA: the two axes explain {100 * self.explained.sum():.0f} % of the variance of the "
                "embeddings."
            )
        else:
            notes.append(
                "Placed by UMAP, which keeps neighbors together: the sizes of groups and the gaps between them mean "
                "little."
            )
        if self.trust is not None:
            of = f"a random sample of {self.trust.sample:,}" if self.trust.sample < len(self) else f"all {len(self):,}"
            notes.append(
                f"Trustworthiness {self.trust.value:.2f} ({self.trust.neighbors} neighbors, {of} tracks): 1 means that "
                "all neighbors on the map are also neighbors in the embedding space; chance gives 0.5."
            )
        notes.append(
            f"The lists of most similar tracks are exact: they come from the similarity {self.similarity}, not the map."
        )
        if self.trained_on and self.column("prediction") is not None:
            notes.append(
                f"The model was fitted to {self.trained_on:,} of these tracks. Expect more errors in its predictions "
                "for the others."
            )
        if self.missing:
            notes.append(f"Left out: {counted(self.missing, 'missing file')}.")
        return notes

    def to_json(self) -> dict[str, Any]:
        """Return the facts about the map as JSON, without the tracks."""
        trust = self.trust
        return {
            "model": self.model,
            "dataset": self.dataset,
            "tracks": len(self),
            "missing": self.missing,
            "method": self.method,
            "explained_variance": None if self.explained is None else self.explained.tolist(),
            "trustworthiness": None if trust is None else trust.value,
            "trustworthiness_neighbors": None if trust is None else trust.neighbors,
            "trustworthiness_tracks": None if trust is None else trust.sample,
            "similarity": self.similarity,
            "color": self.color,
        }


def draw_map(
    collection: Collection,
    *,
    method: str = "pca",
    seed: int = 0,
    color: str | None = None,
    progress: Progress = NO_PROGRESS,
) -> LibraryMap:
    """Place the tracks of a collection on a map, with their properties and the model's predictions.

    Parameters
    ----------
    collection : Collection
    method : {"pca", "umap"}
    seed : int
        Seed of UMAP, and of the sample on which trustworthiness is measured.
    color : str, optional
        The column that colors the map at first.
    progress : Progress, optional

    Raises
    ------
    StoreError
        If all files are missing.
    MirembedError
        If there is no column ``color``, or there are too few tracks for UMAP.
    ModelError
        If the model is damaged.
    """
    with interruptible():
        rows = [row for row in range(len(collection)) if collection.is_present(row)]
    missing = len(collection) - len(rows)
    if not rows:
        raise StoreError(
            f"all audio files of {collection.spec} in {collection.audio} are missing; bring the folder back, or run "
            f"`{collection.staleness.command}`"
        )
    if missing:
        progress.note(f"left out {counted(missing, 'missing file')}; run `{collection.staleness.command}`")
    with interruptible():
        changed = sum(file_stamp(collection.path(row)) != collection.stamps[row] for row in rows)
    if changed:
        progress.note(collection.staleness.of_changed(counted(changed, "file"), changed))
    if len(rows) > MANY_TRACKS:
        progress.note(f"a page with more than {MANY_TRACKS} tracks is slow; --out FILE.parquet has no limit")
    with interruptible():
        labels = _label_columns("label", collection.task, [collection.labels[row] for row in rows])
        tags = _tag_columns(collection, rows)
    model = load_model(collection.folder, collection.registry)
    predicted = _label_columns("prediction", model.task, [])
    chosen = None if color is None else _column_named(color, [*labels, *predicted, *tags])
    vectors = collection.vectors[rows]
    columns = [*labels, *_predictions(model, vectors, progress), *tags]
    k = max(NEIGHBORS, UMAP_NEIGHBORS - 1) if method == "umap" else NEIGHBORS
    neighbors, similarities = nearest(collection.registry, collection.similarity, vectors, k, progress)
    progress.start("placing the tracks", 1)
    explained = None
    if method == "umap":
        positions = umap_positions(vectors, neighbors, similarities, seed)
    else:
        with interruptible():
            positions, explained = principal_components(vectors)
    trust = trustworthiness(collection.registry, collection.similarity, vectors, positions, seed)
    progress.update(1)
    titles, albums = collection.index.values("title"), collection.index.values("album")
    trained_on = model.trained_on
    return LibraryMap(
        model=collection.model,
        dataset=collection.spec,
        audio=str(collection.audio),
        ids=[collection.ids[row] for row in rows],
        paths=[collection.paths[row] for row in rows],
        urls=_urls(collection, rows),
        titles=[titles[row] for row in rows],
        albums=[albums[row] for row in rows],
        durations=collection.durations[rows],
        columns=columns,
        color=chosen or _first_color(columns),
        positions=positions,
        neighbors=neighbors[:, :NEIGHBORS],
        similarities=similarities[:, :NEIGHBORS],
        similarity=str(collection.similarity),
        method=method,
        explained=explained,
        trust=trust,
        missing=missing,
        trained_on=sum(
            collection.recordings[row] in trained_on or collection.audio_hashes[row] in trained_on for row in rows
        ),
    )


def write_map_table(path: Path, drawn: LibraryMap) -> None:
    """Write a map as a table that embedding-atlas opens, one row per track.

    Its option ``--neighbors`` takes the column ``neighbors``: ``ids`` are row numbers, from 0, and ``distances`` are 1
    minus the similarities, or the largest similarity minus these if it is above 1.
    Source: https://apple.github.io/embedding-atlas/tool.html.

    Raises
    ------
    StoreWriteError
        If the file cannot be written.
    """
    import pyarrow as pa

    n, k = drawn.neighbors.shape
    ends = pa.array(np.arange(n + 1, dtype=np.int32) * k)

    def lists(values: NDArray[Any], of: pa.DataType) -> pa.Array:
        return pa.ListArray.from_arrays(ends, pa.array(np.ascontiguousarray(values).reshape(-1), of))

    distances = drawn.similarities.max(initial=1.0) - drawn.similarities
    neighbors = pa.StructArray.from_arrays(
        [lists(drawn.neighbors, pa.int32()), lists(distances, pa.float64())], ["ids", "distances"]
    )
    columns: dict[str, Any] = {
        "track": pa.array(drawn.ids, pa.string()),
        "path": pa.array(drawn.paths, pa.string()),
        "title": pa.array(drawn.titles, pa.string()),
        "artist": _texts(drawn.column("artist"), n),
        "album": pa.array(drawn.albums, pa.string()),
    }
    for column in drawn.columns:
        if column.name.partition(" ")[0] in ("label", "prediction"):
            numbers = isinstance(column.values, np.ndarray)
            columns[column.name] = pa.array(column.values, from_pandas=True) if numbers else _texts(column, n)
    x, y = drawn.positions.T
    columns |= {"x": pa.array(x), "y": pa.array(y), "neighbors": neighbors}
    write_table(path, pa.table(columns))


def _texts(column: Column | None, n: int) -> Any:
    """Return an Arrow array with the texts of each of ``n`` tracks, joined by commas; null if there is none."""
    import pyarrow as pa

    values: Any = [()] * n if column is None else column.values
    return pa.array([", ".join(texts) or None for texts in values], pa.string())


def _tag_columns(collection: Collection, rows: Sequence[int]) -> list[Column]:
    """Return the file tags of tracks, without columns that are empty for all of them."""
    values = collection.index.values

    def texts(name: str, field: str) -> Column:
        known = values(field)
        return Column(name, [() if known[row] is None else (known[row],) for row in rows])

    def lists(name: str, field: str) -> Column:
        known = values(field)
        return Column(name, [known[row] for row in rows])

    def numbers(name: str, field: str) -> Column:
        known = values(field)
        return Column(name, np.array([known[row] for row in rows], np.float64))

    columns = [
        lists("artist", "artists"),
        texts("album", "album"),
        lists("genre", "genres"),
        lists("mood", "moods"),
        numbers("year", "year"),
        numbers("rating", "rating"),
    ]
    return [column for column in columns if _is_known(column)]


def _is_known(column: Column) -> bool:
    if isinstance(column.values, np.ndarray):
        return not np.isnan(column.values).all()
    return any(column.values)


def _label_columns(name: str, task: Task | None, labels: Sequence[Label | None]) -> list[Column]:
    """Return a column of classes or tags, or one for each target."""
    if task is None:
        return []
    if isinstance(task, Regression):
        values = [[np.nan] * len(task.targets) if label is None else label for label in labels]
        numbers = np.array(values, np.float64).reshape(len(labels), len(task.targets))
        return [Column(f"{name} {target}", numbers[:, n]) for n, target in enumerate(label_names(task))]
    texts: Texts = []
    for label in labels:
        of_track = () if label is None else (label,) if isinstance(label, str) else sorted(map(str, label))
        texts.append(tuple(of_track))
    return [Column(name, texts)]


def _predictions(model: AnyModel, vectors: NDArray[np.float32], progress: Progress) -> list[Column]:
    n = len(vectors)
    outputs = []
    progress.start("predicting", n)
    for start in range(0, n, _AT_ONCE):
        with interruptible():
            outputs.append(model.predict(vectors[start : start + _AT_ONCE]))
        progress.update(min(n, start + _AT_ONCE))
    predicted = np.concatenate(outputs)
    task = model.task
    labels: list[Label | None]
    if isinstance(task, Regression):
        labels = [tuple(row) for row in predicted.tolist()]
    elif isinstance(task, Tags):
        labels = [frozenset(task.classes[tag] for tag in row.nonzero()[0]) for row in predicted]
    else:
        labels = [task.classes[number] for number in predicted.tolist()]
    return _label_columns("prediction", task, labels)


def _column_named(color: str, columns: Sequence[Column]) -> str:
    """Return the name of the column that ``--color`` means; for labels with several targets, the first target."""
    names = [*(column.name for column in columns), FOLDER]
    for name in names:
        if name == color or name.startswith(f"{color} "):
            return name
    raise MirembedError(f"--color {color}: the tracks have no such property; choose one of {', '.join(names)}")


def _first_color(columns: Sequence[Column]) -> str:
    """Return the name of the column that colors the map at first, unless the user chooses one."""
    for wanted in _COLORS:
        for column in columns:
            if column.name.partition(" ")[0] == wanted and _n_distinct(column) > 1:
                return column.name
    return FOLDER


def _n_distinct(column: Column) -> int:
    if isinstance(column.values, np.ndarray):
        return len(np.unique(column.values[~np.isnan(column.values)]))
    return len(Counter(text for texts in column.values for text in texts))


def folders_of(paths: Sequence[str], audio: str) -> tuple[str, list[str], list[str]]:
    """Split paths into a common root, folders relative to it, and file names.

    Parameters
    ----------
    paths : sequence of str
        Absolute paths.
    audio : str
        The root, if it contains all paths.

    >>> folders_of(["/music/rock/a.mp3", "/music/b.mp3"], "/music")
    ('/music', ['rock', '.'], ['a.mp3', 'b.mp3'])
    """
    pairs = [path.rpartition("/") for path in paths]
    distinct = {folder for folder, _, _ in pairs}
    root = audio.rstrip("/")
    while not all(folder == root or folder.startswith(f"{root}/") for folder in distinct):
        root = root.rpartition("/")[0]
    relative = {folder: folder[len(root) + 1 :] or "." for folder in distinct}
    return root, [relative[folder] for folder, _, _ in pairs], [name for _, _, name in pairs]


def _urls(collection: Collection, rows: Sequence[int]) -> dict[int, str]:
    """Return the URLs of files whose names are not valid UTF-8, by row."""
    urls = {}
    for number, row in enumerate(rows):
        text = collection.paths[row]
        if "\\x" in text and str(path := collection.path(row)) != text:
            urls[number] = path.as_uri()
    return urls
