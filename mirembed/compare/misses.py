"""The tracks that every method of a run gets wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.hookspecs import Classification, Regression, Tags
from mirembed.runs.record import RunRecord


@dataclass(frozen=True)
class Miss:
    """A track that every method gets wrong, whenever it is tested.

    Attributes
    ----------
    track : str
    what : str
        What is wrong: ``class``, a tag, or a target.
    truth : str
        The class; ``yes`` or ``no`` for a tag; the value of a target.
    predicted : str
        The classes that are predicted, with how often over methods and seeds; ``yes`` or ``no`` for a tag; the closest
        prediction of a target.
    """

    track: str
    what: str
    truth: str
    predicted: str


def missed_by_all(run: RunRecord) -> list[Miss]:
    """Return what every method of a run but ``chance`` gets wrong in every test, the plainest misses first.

    Of targets, what every method misses by more than the target's standard deviation over the tested tracks.
    """
    methods = [method.name for method in run.methods if method.approach.name != "chance"]
    if not run.predictions or not methods:
        return []
    first = run.predictions[methods[0]]
    ids, rows = np.unique(first.ids, return_inverse=True)  # the track of each row; rows are those of all methods
    truth = np.zeros((len(ids), first.truth.shape[1]), first.truth.dtype)
    truth[rows] = first.truth
    predicted = np.stack([run.predictions[method].predicted for method in methods])  # [n_methods, n_rows, n_columns]
    if isinstance(run.task, Classification):
        return _classes(run.task, ids.tolist(), rows, truth[:, 0], predicted[:, :, 0])
    if isinstance(run.task, Tags):
        return _tags(run.task, ids.tolist(), rows, truth, predicted)
    return _targets(run.task, ids.tolist(), rows, truth, predicted)


def _never(right: NDArray[np.bool_], rows: NDArray[np.intp], n_tracks: int) -> NDArray[np.bool_]:
    """Return for which tracks no method is ever right; ``right`` is ``[n_methods, n_rows, ...]``."""
    ever = np.zeros((n_tracks, *right.shape[2:]), bool)
    np.logical_or.at(ever, rows, right.any(axis=0))
    return ~ever


def _classes(
    task: Classification, ids: list[str], rows: NDArray[np.intp], truth: NDArray[Any], predicted: NDArray[Any]
) -> list[Miss]:
    missed = np.flatnonzero(_never(predicted == truth[rows], rows, len(ids)))
    found = []
    for track in missed.tolist():
        counts = Counter(predicted[:, rows == track].ravel().tolist()).most_common()
        text = ", ".join(f"{task.classes[number]} ({count})" for number, count in counts)
        found.append((-counts[0][1], Miss(ids[track], "class", task.classes[int(truth[track])], text)))
    return [miss for _, miss in sorted(found, key=lambda pair: (pair[0], pair[1].track))]


def _tags(
    task: Tags, ids: list[str], rows: NDArray[np.intp], truth: NDArray[Any], predicted: NDArray[Any]
) -> list[Miss]:
    missed = _never(predicted == truth[rows], rows, len(ids))  # [n_tracks, n_tags]
    found = []
    for track in np.argsort(-missed.sum(axis=1), kind="stable").tolist():
        for tag in np.flatnonzero(missed[track]).tolist():
            has, other = ("yes", "no") if truth[track, tag] else ("no", "yes")
            found.append(Miss(ids[track], task.classes[tag], has, other))
    return found


def _targets(
    task: Regression, ids: list[str], rows: NDArray[np.intp], truth: NDArray[Any], predicted: NDArray[Any]
) -> list[Miss]:
    errors = np.abs(predicted - truth[rows])
    closest = np.full(truth.shape, np.inf)  # [n_tracks, n_targets]
    np.minimum.at(closest, rows, errors.min(axis=0))
    scaled = closest / np.maximum(truth.std(axis=0), 1e-12)
    found = []
    for track, column in sorted(zip(*np.nonzero(scaled > 1), strict=True), key=lambda place: -scaled[place]):
        nearest = errors[:, rows == track, column].argmin()
        value = predicted[:, rows == track, column].ravel()[nearest]
        found.append(Miss(ids[track], task.targets[column].name, f"{truth[track, column]:.3g}", f"{value:.3g}"))
    return found
