"""Averaging the predictions of several models of the same tracks, which makes a combined method of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.hookspecs import Classification, Regression, Task


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a model says about tracks, as `mirembed.models.model.Model` returns it.

    Attributes
    ----------
    predicted : ndarray
        Class indices ``[n]``, tags ``[n, n_tags]`` of 0 and 1, or targets ``[n, n_targets]`` in original units.
    scores : ndarray [n, n_tags], float64, or None
        By which tags are ranked; None for classes and targets.
    probabilities : ndarray [n, n_classes], float64, or None
        Of classes or tags; None if the model has none.
    """

    predicted: NDArray[Any]
    scores: NDArray[np.float64] | None = None
    probabilities: NDArray[np.float64] | None = None


def contribution(task: Task, outputs: Outputs) -> NDArray[np.float64]:
    """Return what a model contributes to a mean: its targets, or its probabilities ``[n, n_columns]``.

    Where it has no probabilities (None or NaN), its prediction counts: 1 for the predicted class or tags, otherwise 0.
    """
    plain = outputs.predicted
    if isinstance(task, Classification):
        plain = plain[:, None] == np.arange(len(task.classes))
    if isinstance(task, Regression) or outputs.probabilities is None:
        return plain.astype(np.float64)
    return np.where(np.isnan(outputs.probabilities), plain, outputs.probabilities)


def average(task: Task, members: Sequence[Outputs], weights: NDArray[np.float64]) -> Outputs:
    """Average the predictions of models.

    Targets are averaged as they are, classes and tags by their probabilities: the class with the highest mean
    probability is predicted, and each tag whose mean probability is at least 0.5. Mean probabilities also rank tags.

    >>> from mirembed.hookspecs import Classification
    >>> sure = Outputs(np.array([0]), probabilities=np.array([[0.9, 0.1]]))
    >>> unsure = Outputs(np.array([1]), probabilities=np.array([[0.4, 0.6]]))
    >>> average(Classification(("calm", "loud")), [sure, unsure], np.array([0.5, 0.5])).probabilities.round(2).tolist()
    [[0.65, 0.35]]

    Parameters
    ----------
    task : Classification, Tags or Regression
    members : sequence of Outputs
        Of the same tracks.
    weights : ndarray [n_members], or [n, n_members] if they differ between tracks, float64
        Not negative, with sum 1 over the members.

    Returns
    -------
    Outputs
        Without probabilities if no member has any.
    """
    parts = [contribution(task, one) for one in members]
    mean = np.zeros_like(parts[0])
    for part, weight in zip(parts, weights.T, strict=True):  # in order, so that no track depends on the others
        mean += weight.reshape(-1, 1) * part
    if isinstance(task, Regression):
        return Outputs(mean)
    probabilities = mean if any(one.probabilities is not None for one in members) else None
    if isinstance(task, Classification):
        return Outputs(mean.argmax(axis=1), None, probabilities)
    return Outputs((mean >= 0.5).astype(np.int64), mean, probabilities)


def equal_weights(n: int) -> NDArray[np.float64]:
    """Return the weights of ``n`` members that count the same: ndarray ``[n]``."""
    return np.full(n, 1 / n)
