"""What a model predicts for audio files: rows for people and programs, with probabilities where they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mirembed.audio.files import printable
from mirembed.errors import ModelError, SpecError
from mirembed.hookspecs import Regression, Tags, Task
from mirembed.models.base import AnyModel
from mirembed.models.inference import EmbeddedFiles
from mirembed.models.model import named_predictions
from mirembed.progress import counted
from mirembed.store.exports import write_rows
from mirembed.store.rows import label_names, label_type

if TYPE_CHECKING:
    import pyarrow as pa

NONE_OF_THESE = "none of these"
"""In a table: no class is probable enough."""


@dataclass(frozen=True)
class Ranking:
    """Which classes or tags to name, by their probability.

    Attributes
    ----------
    top : int
        The most to name.
    min_score : float
        The least probability.
    """

    top: int
    min_score: float

    @classmethod
    def of(cls, model: AnyModel, top: int | None, min_score: float | None) -> Ranking | None:
        """Return what ``--top`` and ``--min-score`` ask for; None if neither is given.

        Raises
        ------
        SpecError
            If ``min_score`` is no probability.
        ModelError
            If the model has no probabilities.
        """
        if top is None and min_score is None:
            return None
        given = f"--top {top}" if min_score is None else f"--min-score {min_score:g}"
        if isinstance(model.task, Regression):
            raise ModelError(f"{given}: the model predicts targets, and only classes and tags have probabilities")
        if min_score is not None and not 0 <= min_score <= 1:
            raise SpecError(f"--min-score {min_score:g}: expected a probability, from 0 to 1")
        if not model.has_probabilities:
            raise ModelError(
                f"{given}: the model has no probabilities; "
                "its learner has no decision values, or the notes in model.json give another reason"
            )
        every = len(model.task.classes)
        default = every if isinstance(model.task, Tags) else 1
        return cls(min(top or default, every), min_score or 0.0)

    def rows(self, task: Task, probabilities: NDArray[np.float64]) -> list[dict[str, Any]]:
        """Name the most probable classes or tags of each track, the most probable first.

        Parameters
        ----------
        task : Classification or Tags
        probabilities : ndarray [n_tracks, n_classes]

        Returns
        -------
        list of dict
            Classes: ``label`` and ``probability``, then ``label_2`` and ``probability_2``, and so on; None for those
            that are not probable enough. Tags: lists of them, as ``label`` and ``probability``.
        """
        assert not isinstance(task, Regression)  # noqa: S101
        rows: list[dict[str, Any]] = []
        for values in probabilities:
            order = np.argsort(-values, kind="stable")[: self.top]
            found = [(task.classes[one], float(values[one])) for one in order if values[one] >= self.min_score]
            if isinstance(task, Tags):
                rows.append({"label": [tag for tag, _ in found], "probability": [value for _, value in found]})
                continue
            cells: list[Any] = [part for pair in found for part in pair]
            missing = [None] * (2 * (self.top - len(found)))
            rows.append(dict(zip(self.columns(task), [*cells, *missing], strict=True)))
        return rows

    def columns(self, task: Task) -> list[str]:
        """Return the names of the columns of `rows`."""
        last = 1 if isinstance(task, Tags) else self.top
        ends = ["", *(f"_{number}" for number in range(2, last + 1))]
        return [name + end for end in ends for name in ("label", "probability")]


def prediction_rows(model: AnyModel, files: EmbeddedFiles, ranking: Ranking | None = None) -> list[dict[str, Any]]:
    """Predict files: a row of `prediction_columns` for each.

    ``known`` is whether the model was fitted to the recording, whatever the name and the tags of its file.
    """
    if ranking is None:
        predicted = named_predictions(model.task, model.predict(files.embeddings))
    else:
        probabilities = model.probabilities(files.embeddings)
        assert probabilities is not None  # noqa: S101
        predicted = ranking.rows(model.task, probabilities)
    known = files.among(model.trained_on)
    return [
        {"path": printable(path), "known": is_known, **values}
        for path, is_known, values in zip(files.paths, known, predicted, strict=True)
    ]


def prediction_notes(model: AnyModel, ranking: Ranking | None, n_left_out: int | None) -> list[str]:
    """Say what to know about predictions.

    Parameters
    ----------
    model : AnyModel
    ranking : Ranking or None
    n_left_out : int or None
        Files that were left out because the model was fitted to them; None if that was not asked for.
    """
    notes = []
    if n_left_out is not None:
        notes.append(f"left out {counted(n_left_out, 'file')} that the model was fitted to")
    if ranking is not None and model.uncalibrated is not None:
        notes.append(f"warning: {model.uncalibrated}")
    return notes


def prediction_columns(task: Task, ranking: Ranking | None = None) -> list[str]:
    """Return the names of the columns of predictions."""
    return ["path", "known", *(label_names(task) if ranking is None else ranking.columns(task))]


def in_words(row: Mapping[str, Any], ranking: Ranking | None = None) -> list[Any]:
    """Return the cells of a row of a table for people: a list in one cell, and words where nothing is probable enough.

    >>> in_words({"path": "a.wav", "known": True, "label": None, "probability": None}, Ranking(1, 0.5))
    ['a.wav', 'yes', 'none of these', None]
    """
    cells = ["yes" if value is True else "" if value is False else as_text(value) for value in row.values()]
    if ranking is not None and not row["label"]:
        cells[list(row).index("label")] = NONE_OF_THESE
    return cells


def as_text(value: Any) -> Any:
    """Return a list as a text; anything else as it is.

    >>> as_text(["piano", "calm"]), as_text([0.75, 0.5])
    ('piano, calm', '0.750, 0.500')
    """
    if not isinstance(value, list):
        return value
    return ", ".join(f"{one:.3f}" if isinstance(one, float) else str(one) for one in value)


def write_predictions(
    path: Path, rows: Sequence[Mapping[str, Any]], task: Task, columns: Sequence[str], *, bom: bool = False
) -> None:
    """Write one row per file, as CSV or Parquet. The dataset ``folder`` reads the CSV as a table of labels.

    Parameters
    ----------
    path : pathlib.Path
    rows : sequence of mapping
        See `prediction_rows`.
    task : Classification, Tags or Regression
    columns : sequence of str
        See `prediction_columns`.
    bom : bool
        See `mirembed.store.exports.write_csv`.

    Raises
    ------
    StoreWriteError
        If the file cannot be written.
    """
    write_rows(path, (list(row.values()) for row in rows), predictions_schema(task, columns), bom=bom)


def predictions_schema(task: Task, columns: Sequence[str]) -> pa.Schema:
    """Return the names and types of the columns of predictions; see `prediction_columns`."""
    import pyarrow as pa

    return pa.schema([(name, _column_type(name, task)) for name in columns])


def _column_type(name: str, task: Task) -> pa.DataType:
    import pyarrow as pa

    if name == "path":
        return pa.string()
    if name == "known":
        return pa.bool_()
    if isinstance(task, Regression) or name.startswith("label"):
        return label_type(task)
    return pa.list_(pa.float64()) if isinstance(task, Tags) else pa.float64()
