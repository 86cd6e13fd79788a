"""The mean of what several models predict for the same tracks, and the weights of the models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.hookspecs import Classification, Regression, Task
from mirembed.training.labels import scale_for


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a model predicts for tracks, as `mirembed.models.model.Model` returns it.

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

    Where it has no probabilities (None or NaN), the class or tags that it predicts count as 1, and all others as 0.
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


def stacked_weights(task: Task, labels: NDArray[Any], members: Sequence[Outputs]) -> NDArray[np.float64]:
    """Return the weights with which the mean of models is closest to the truth, for tracks they were not fitted to.

    They minimize the squared error of the scaled targets, or of the probabilities (the Brier score), under the
    constraints of L. Breiman, Stacked regressions, Machine Learning 24 (1996), which keep them from fitting noise: none
    is negative, and their sum is 1.

    >>> from mirembed.hookspecs import Regression, Target
    >>> low, high = (Outputs(np.array([[1.0], [5.0]]) + shift) for shift in (-1, 3))
    >>> stacked_weights(Regression((Target("x", 0, 10),)), np.array([[1.0], [5.0]]), [low, high]).round(3).tolist()
    [0.75, 0.25]

    Parameters
    ----------
    task : Classification, Tags or Regression
    labels : ndarray
        Class indices ``[n]``, tags ``[n, n_tags]`` of 0 and 1, or targets ``[n, n_targets]`` in original units.
    members : sequence of Outputs

    Returns
    -------
    ndarray [n_members], float64
    """
    from scipy.optimize import nnls

    truth, parts = contribution(task, Outputs(labels)), [contribution(task, one) for one in members]
    scale = scale_for(task, labels)
    if scale is not None:
        truth, *parts = (scale.scale(one) for one in (truth, *parts))
    errors = np.stack([(part - truth).ravel() for part in parts], axis=1)  # [n * n_columns, n_members]
    size = float(np.sqrt(np.square(errors).mean(axis=0)).max())
    if size == 0:
        return equal_weights(len(members))
    # The point of the convex hull of the columns that is closest to 0: C. L. Lawson & R. J. Hanson, Solving least
    # squares problems (1974), chapter 23. Scaling the solution to the sum 1 does not move it from the optimum.
    errors = np.vstack([errors / (size * np.sqrt(len(errors))), np.ones(len(members))])
    found, _ = nnls(errors, np.append(np.zeros(len(errors) - 1), 1.0))
    weights: NDArray[np.float64] = found / found.sum()
    return weights


def equal_weights(n: int) -> NDArray[np.float64]:
    """Return the weights of ``n`` members that count the same: ndarray ``[n]``."""
    return np.full(n, 1 / n)
