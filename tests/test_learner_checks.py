"""The checks of a learner find what is wrong with it, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from broken_promises import assert_breaks, failures
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mirembed import Classification, MirembedError, Regression
from mirembed.testing import ConformanceError, check_learner, promises


class Nearest(BaseEstimator):
    """Predicts the label of the nearest track, whatever the task."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Nearest:
        self.X_, self.y_ = X.copy(), y.copy()
        return self

    def predict(self, X: np.ndarray) -> Any:
        return self.y_[((X[:, None] - self.X_) ** 2).sum(axis=2).argmin(axis=1)]


class Names(Nearest):
    def predict(self, X: np.ndarray) -> Any:
        predicted = super().predict(X)
        return predicted if predicted.ndim > 1 else np.array(["blues", "jazz", "pop", "rock"])[predicted]


class OneHot(Nearest):
    def predict(self, X: np.ndarray) -> Any:
        predicted = super().predict(X)
        return predicted if predicted.ndim > 1 else np.eye(4)[predicted]


class Positions(Nearest):
    """Returns indices into the training classes without mapping them back to classes."""

    def predict(self, X: np.ndarray) -> Any:
        predicted = super().predict(X)
        return predicted if predicted.ndim > 1 else np.searchsorted(np.unique(self.y_), predicted)


class Flat(Nearest):
    """Returns ``[n]`` for one target, like most of scikit-learn's estimators."""

    def predict(self, X: np.ndarray) -> Any:
        predicted = super().predict(X)
        return predicted.ravel() if predicted.shape[1:] == (1,) else predicted


class NotFinite(Nearest):
    def predict(self, X: np.ndarray) -> Any:
        predicted = super().predict(X)
        return predicted * np.inf if predicted.dtype == float else predicted


class Constant(Nearest):
    def predict(self, X: np.ndarray) -> Any:
        is_tags = self.y_.ndim > 1 and self.y_.dtype != float
        return super().predict(X) if is_tags else np.repeat(self.y_[:1], len(X), axis=0)


class Probabilities(Nearest):
    def predict(self, X: np.ndarray) -> Any:
        predicted = super().predict(X)
        return 0.25 + predicted / 2 if predicted.ndim > 1 and predicted.dtype != float else predicted


class Backwards(Nearest):
    def decision_function(self, X: np.ndarray) -> Any:
        return -super().predict(X)


class FlatScores(Nearest):
    def decision_function(self, X: np.ndarray) -> Any:
        return super().predict(X).ravel()


class Noisy(Nearest):
    def fit(self, X: np.ndarray, y: np.ndarray) -> Noisy:
        super().fit(X, y)
        if y.dtype == float:
            self.y_ += np.random.default_rng().normal(0, 1e-6, y.shape)
        return self


class Collecting(Nearest):
    """Adds to what it learned before instead of starting anew."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Collecting:
        if hasattr(self, "X_"):
            X, y = np.concatenate([self.X_, X]), np.concatenate([self.y_, y])
        super().fit(X, y)
        return self

    def predict(self, X: np.ndarray) -> Any:
        predicted = super().predict(X)
        return predicted + len(self.y_) * 1e-9 if predicted.dtype == float else predicted


class Foreign:
    """Not a scikit-learn estimator: it has no ``get_params``."""

    fit = Nearest.fit
    predict = Nearest.predict


class Rewriting(Nearest):
    """Changes a parameter in ``__init__``."""

    def __init__(self, metric: tuple[str, ...] = ()) -> None:
        self.metric = [*metric]


class ClearsEmbeddings(Nearest):
    def fit(self, X: np.ndarray, y: np.ndarray) -> ClearsEmbeddings:
        super().fit(X, y)
        X[:] = 0
        return self


class ScalesToPredict(Nearest):
    def predict(self, X: np.ndarray) -> Any:
        predicted = super().predict(X)
        X -= X.mean(axis=0)
        return predicted


class SortsLabels(Nearest):
    def fit(self, X: np.ndarray, y: np.ndarray) -> SortsLabels:
        super().fit(X, y)
        y[::-1].sort(axis=0)
        return self


class Forgetful(Nearest):
    """Saves only part of its state."""

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if "y_" in state:
            state["y_"] = np.zeros_like(state["y_"])
        return state


class Elsewhere(Nearest):
    """Defined in a package other than the plugin's."""


Elsewhere.__module__ = "another_package"


class WithALambda:
    def estimator(self, task: object) -> object:
        return make_pipeline(FunctionTransformer(lambda X: X), Nearest())


SHARED = Nearest()


def learner(estimator: type) -> type:
    """Return a plugin whose estimator is always of this type."""

    class Learner:
        def estimator(self, task: object) -> object:
            return estimator()

    Learner.__module__ = __name__
    return Learner


class Shares:
    def estimator(self, task: object) -> object:
        return SHARED


class CountsGroups:
    takes_groups = 0

    def estimator(self, task: object) -> object:
        return Nearest()


class Untyped:
    def __init__(self, k=1) -> None:
        self.k = k

    def estimator(self, task: object) -> object:
        return Nearest()


BROKEN: dict[str, tuple[type, str, str]] = {
    "one estimator for all": (Shares, "estimator", "same Nearest"),
    "parameter without annotation": (Untyped, "parameters", "k is '1'"),
    "names of classes": (
        learner(Names),
        "classes learns",
        "type <U5, expected class indices of shape [40]\n  given: 40 embeddings of 4 classes\n",
    ),
    "one-hot classes": (learner(OneHot), "classes", "shape [40, 4]"),
    "indices into the training classes": (
        learner(Positions),
        "classes",
        "[1], expected some of [0, 2, 3]\n  given: 30 embeddings of 4 classes, none of class 1\n",
    ),
    "a flat array for one target": (
        learner(Flat),
        "targets",
        "shape [40, 1]\n  given: 40 embeddings with 1 target\n",
    ),
    "infinite predictions": (learner(NotFinite), "targets learns", "not finite"),
    "nothing learned": (
        learner(Constant),
        "learns",
        "accuracy = 0.25, expected above 0.5",
    ),
    "tags as probabilities": (learner(Probabilities), "tags learns", "0.25"),
    "scores of the absence of a tag": (learner(Backwards), "tags", "'calm'"),
    "scores in another shape": (learner(FlatScores), "tags", "shape (120,)"),
    "a number for takes_groups": (CountsGroups, "groups", "takes_groups=0"),
    "random numbers": (
        learner(Noisy),
        "deterministic",
        "random_state=0",
    ),
    "a second fit that adds to the first": (
        learner(Collecting),
        "refit",
        "for track 0, expected ",
    ),
    "not a scikit-learn estimator": (
        learner(Foreign),
        "clone",
        "sklearn.base.BaseEstimator",
    ),
    "a parameter changed by __init__": (learner(Rewriting), "clone", "RuntimeError: Cannot clone object"),
    "embeddings changed by fit": (learner(ClearsEmbeddings), "input-unchanged", "embeddings in fit"),
    "embeddings changed by predict": (learner(ScalesToPredict), "input-unchanged", "embeddings in predict"),
    "labels changed by fit": (learner(SortsLabels), "input-unchanged", "labels in fit"),
    "a lambda": (WithALambda, "storable", "loaded after it was stored: AttributeError: "),
    "a class from another package": (learner(Elsewhere), "storable", "another_package.Elsewhere"),
    "partly saved state": (
        learner(Forgetful),
        "storable",
        "0 for track 1, expected 1",
    ),
}
"""Broken learners, the promises that they break, and a fact in the first message."""


@pytest.mark.parametrize("fault", BROKEN)
def test_a_fault_is_found_and_nothing_else_is_reported(fault):
    factory, names, fragment = BROKEN[fault]
    assert_breaks(failures("learner", factory), names, fragment)


def test_every_check_finds_a_fault():
    assert {names.split()[0] for _, names, _ in BROKEN.values()} == {p.name for p in promises("learner")}


class Neighbors:
    def __init__(self, *, k: int = 3) -> None:
        self.k = k

    def estimator(self, task: object) -> object:
        return (KNeighborsRegressor if isinstance(task, Regression) else KNeighborsClassifier)(self.k)


class Selecting:
    """Chooses a parameter on inner folds that keep groups apart."""

    takes_groups = True

    def estimator(self, task: object) -> object:
        kind = KNeighborsRegressor if isinstance(task, Regression) else KNeighborsClassifier
        return GridSearchCV(kind(), {"n_neighbors": [1, 3]}, cv=GroupKFold(3))


class ClassesOnly:
    def estimator(self, task: object) -> object:
        if not isinstance(task, Classification):
            raise MirembedError("classes-only does not support regression; use svm")
        return KNeighborsClassifier(1)


class CrashesForRegression:
    def estimator(self, task: object) -> object:
        return KNeighborsClassifier(len(task.classes))


@pytest.mark.parametrize("correct", [Neighbors, Selecting, learner(Nearest), ClassesOnly])
def test_a_correct_learner_passes_every_check_even_if_it_does_not_support_a_task(correct):
    assert failures("learner", correct) == {}


def test_an_unsupported_task_must_raise_an_error_of_mirembed():
    with pytest.raises(ConformanceError) as error:
        check_learner(CrashesForRegression)
    what, given, cause = str(error.value).split("\n")
    assert what.startswith("learner CrashesForRegression, estimator: ")
    assert what.endswith("AttributeError: 'Regression' object has no attribute 'classes'")
    assert given.endswith("40 embeddings with 3 targets")
    assert "MirembedError" in cause


def test_an_object_that_cannot_predict_is_not_an_estimator():
    with pytest.raises(ConformanceError, match=r"dict.* fit"):
        check_learner(learner(dict))
    with pytest.raises(ConformanceError, match="the same type"):
        check_learner(type("Learner", (), {"estimator": lambda self, task: Nearest}))
