"""Results of models for audio files and tracks: embeddings, predictions, neighbors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mirembed.api.tables import TableResult
from mirembed.audio.files import printable
from mirembed.hookspecs import Regression
from mirembed.store.embeddings import vector_column

if TYPE_CHECKING:
    import pyarrow as pa

    from mirembed.library.neighbors import Neighbors as FoundNeighbors
    from mirembed.models.base import AnyModel
    from mirembed.models.inference import EmbeddedFiles
    from mirembed.models.predictions import Ranking


class Embeddings(TableResult):
    """Embeddings of audio files, or of the tracks of a dataset. ``numpy.asarray`` returns the vectors.

    Attributes
    ----------
    table : pyarrow.Table
        Of files: path, recording, embedding. Of tracks: the columns of `mirembed.Store.tracks`, in_sample (whether the
        network was trained on the recording) and embedding.
    vectors : ndarray [n, units], float32
        In the order of the table.
    failures : list of (pathlib.Path, str)
        Files that could not be read, with the reason.
    """

    def __init__(
        self, table: pa.Table, vectors: NDArray[np.float32], failures: Sequence[tuple[Path, str]] = ()
    ) -> None:
        self.table = table.append_column("embedding", vector_column(vectors))
        self.vectors = vectors
        self.failures = list(failures)

    @classmethod
    def of_files(cls, files: EmbeddedFiles) -> Embeddings:
        """Return the embeddings of files."""
        import pyarrow as pa

        paths = pa.array([printable(path) for path in files.paths], pa.string())
        table = pa.table({"path": paths, "recording": pa.array(files.recordings, pa.string())})
        return cls(table, files.embeddings, files.failures)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.vectors, dtype=dtype, copy=copy)


class Predictions(TableResult):
    """What a model predicts for audio files.

    Attributes
    ----------
    table : pyarrow.Table
        path; known (whether the model was fitted to the recording); and label, or a column for each target. With
        ``top`` or ``min_score``: label and probability, label_2 and probability_2, and so on.
    failures : list of (pathlib.Path, str)
        Files that could not be read, with the reason.
    calibrated : bool
        Whether the probabilities were calibrated on tracks that the learner was not fitted to.
    """

    def __init__(self, model: AnyModel, files: EmbeddedFiles, ranking: Ranking | None = None) -> None:
        from mirembed.models.predictions import prediction_columns, prediction_rows

        self._model, self._files = model, files
        self._rows = prediction_rows(model, files, ranking)
        self._columns = prediction_columns(model.task, ranking)
        self.failures = files.failures
        self.calibrated = model.has_probabilities and model.uncalibrated is None

    @cached_property
    def table(self) -> pa.Table:
        """See `Predictions`."""
        import pyarrow as pa

        from mirembed.models.predictions import predictions_schema

        return pa.Table.from_pylist(self._rows, schema=predictions_schema(self._model.task, self._columns))

    @property
    def labels(self) -> Any:
        """The predicted labels.

        The class of each file, or the list of its tags; an ndarray ``[n_files, n_targets]``, float64, in original
        units, for targets.
        """
        if isinstance(self._model.task, Regression):
            names = [target.name for target in self._model.task.targets]
            return np.array([[row[name] for name in names] for row in self._rows]).reshape(-1, len(names))
        return [row["label"] for row in self._rows]

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes or tags, in the order of the `probabilities`; none for targets."""
        task = self._model.task
        return () if isinstance(task, Regression) else task.classes

    @cached_property
    def probabilities(self) -> NDArray[np.float64] | None:
        """The probability of each class or tag: ndarray ``[n_files, n_classes]``, float64.

        None for targets, and for models without probabilities.
        """
        return self._model.probabilities(self._files.embeddings)


class Neighbors(TableResult):
    """Tracks by descending similarity.

    Attributes
    ----------
    table : pyarrow.Table
        rank, track, path, title, artist, album, duration, similarity; with several seeds, also the similarity to each.
    similarity : str
        The similarity that ranks them: the one that the model learned.
    failures : list of (pathlib.Path, str)
        Files of the searched folder that could not be read, with the reason.
    found : mirembed.library.neighbors.Neighbors
        The tracks with their file tags, the seeds, and what was left out.
    """

    _not_shown = ("path",)

    def __init__(self, found: FoundNeighbors) -> None:
        self.found = found
        self.similarity = found.similarity
        self.failures = found.failures

    @cached_property
    def table(self) -> pa.Table:
        """See `Neighbors`."""
        import pyarrow as pa

        from mirembed.library.neighbors import neighbors_schema

        columns, rows = self.found.table()
        content = [dict(zip(columns, row, strict=True)) for row in rows]
        return pa.Table.from_pylist(content, schema=neighbors_schema(columns))
