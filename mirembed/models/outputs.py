"""What a fitted estimator returns: its predictions, and the scores that rank tags, both checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import PluginError
from mirembed.hookspecs import Classification, Estimator, Tags, Task
from mirembed.progress import counted
from mirembed.registry import plugin_code

LEARNED = -1
"""In an array of constant tags: the learner learned this one."""


def constant_tags(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, for each tag, 1 if all tracks have it, 0 if none has it, and `LEARNED` otherwise.

    >>> constant_tags(np.array([[0, 1, 1], [1, 1, 0]])).tolist()
    [-1, 1, -1]
    """
    return np.where(labels.all(axis=0), 1, np.where(labels.any(axis=0), LEARNED, 0))


def learned_task(task: Task, constant: NDArray[np.int64] | None) -> Task:
    """Return a task without the tags that are constant."""
    if not isinstance(task, Tags) or constant is None:
        return task
    return Tags(tuple(tag for tag, value in zip(task.classes, constant, strict=True) if value == LEARNED))


def predictions(
    estimator: Estimator, name: str, task: Task, X: NDArray[Any], constant: NDArray[np.int64] | None = None
) -> NDArray[Any]:
    """Return what a fitted estimator predicts.

    Parameters
    ----------
    estimator : Estimator
    name : str
        What to call it in messages.
    task : Classification, Tags or Regression
    X : ndarray [n, units], or [n, n_train] for a precomputed kernel
    constant : ndarray [n_tags], int64, or None
        See `constant_tags`; the estimator predicts only the learned ones. None: all.

    Returns
    -------
    ndarray
        Class indices ``[n]``, tags ``[n, n_tags]`` of 0 and 1, or scaled targets ``[n, n_targets]``.

    Raises
    ------
    PluginError
        If the estimator fails, or predicts anything else.
    """
    n, learned = len(X), learned_task(task, constant)
    if isinstance(learned, Classification):
        shape: tuple[int, ...] = (n,)
        wanted, allowed = f"class indices from 0 to {len(learned.classes) - 1}", range(len(learned.classes))
    elif isinstance(learned, Tags):
        shape, wanted, allowed = (n, len(learned.classes)), "0 or 1", range(2)
    else:
        shape, wanted, allowed = (n, len(learned.targets)), "finite values", None
    if n == 0:  # scikit-learn refuses an empty array
        return np.zeros((0, len(task.classes)) if isinstance(task, Tags) else shape)
    with plugin_code(f"{name} fails to predict {counted(n, 'track')}"):
        outputs = np.asarray(estimator.predict(X))
    if isinstance(learned, Tags) and outputs.shape == (n,) and shape[1] == 1:
        outputs = outputs[:, None]  # what scikit-learn's estimators return for a single tag
    _check_shape(outputs, shape, name, "predicted", wanted)
    _check_values(outputs, ~np.isfinite(outputs) if allowed is None else ~np.isin(outputs, allowed), name, wanted)
    return _with_constant(outputs, constant, low=0, high=1) if isinstance(task, Tags) else outputs


def tag_scores(
    estimator: Estimator, name: str, task: Tags, X: NDArray[Any], constant: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Return the scores by which a fitted estimator ranks tracks, for each tag: larger is more likely.

    These are the values of its ``decision_function``; without one, its probabilities; without these, its predictions.
    A tag that is constant has the same score for all tracks, on the side where the prediction is.

    Parameters
    ----------
    estimator, name, task, X, constant
        As for `predictions`.

    Returns
    -------
    ndarray [n, n_tags], float64

    Raises
    ------
    PluginError
        If the estimator fails, or returns anything else.
    """
    method = next((one for one in ("decision_function", "predict_proba") if hasattr(estimator, one)), "predict")
    if method == "predict" or len(X) == 0:
        return predictions(estimator, name, task, X, constant).astype(np.float64)
    learned = learned_task(task, constant)
    assert isinstance(learned, Tags)  # noqa: S101
    shape = len(X), len(learned.classes)
    with plugin_code(f"{name} fails to score {counted(len(X), 'track')}"):
        found = getattr(estimator, method)(X)
        outputs = np.asarray(_of_present(estimator, found, shape[1]) if method == "predict_proba" else found)
    if outputs.shape == shape[:1] and shape[1] == 1:
        outputs = outputs[:, None]
    _check_shape(outputs, shape, f"{method} of {name}", "returned", "finite values")
    _check_values(outputs, ~np.isfinite(outputs), f"{method} of {name}", "finite values")
    low = -1 if method == "decision_function" else 0
    return _with_constant(outputs.astype(np.float64), constant, low=low, high=1)


def _of_present(estimator: Any, found: Any, n_tags: int) -> Any:
    """Return the probabilities that a tag is present ``[n, n_tags]``.

    scikit-learn's estimators of several outputs return a list with the probabilities ``[n, n_values]`` of the values of
    each, and those of a single output such an array alone.
    """
    classes = getattr(estimator, "classes_", None)
    if not isinstance(found, list):
        found = np.asarray(found)
        if n_tags > 1 or found.ndim < 2 or found.shape[1] == 1:
            return found
        found, classes = [found], [classes]
    columns = []
    for tag, probabilities in enumerate(found):
        present = np.flatnonzero(np.asarray([0, 1] if classes is None else classes[tag]) == 1)
        columns.append(probabilities[:, present[0]] if len(present) else np.zeros(len(probabilities)))
    return np.stack(columns, axis=1)


def _with_constant(outputs: NDArray[Any], constant: NDArray[np.int64] | None, *, low: int, high: int) -> NDArray[Any]:
    """Put the columns of the learned tags and of the constant ones together."""
    if constant is None:
        return outputs
    whole = np.empty((len(outputs), len(constant)), outputs.dtype)
    whole[:, constant == LEARNED] = outputs
    whole[:, constant == 0] = low
    whole[:, constant == 1] = high
    return whole


def _check_shape(outputs: NDArray[Any], shape: tuple[int, ...], name: str, did: str, wanted: str) -> None:
    if outputs.shape != shape or outputs.dtype.kind not in "iuf":
        raise PluginError(
            f"{name} {did} an array of shape {outputs.shape} and type {outputs.dtype}; "
            f"expected {wanted} in the shape {shape}"
        )


def _check_values(outputs: NDArray[Any], wrong: NDArray[np.bool_], name: str, wanted: str) -> None:
    if wrong.any():
        first = tuple(np.argwhere(wrong)[0].tolist())
        raise PluginError(
            f"{name} predicted {outputs[first]} for track {first[0]} "
            f"({counted(int(wrong.sum()), 'such value')} in total); expected {wanted}"
        )
