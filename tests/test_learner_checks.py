"""`mirembed.testing` finds what is wrong with a learner, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from broken_promises import assert_breaks, failures
from sklearn.base import BaseEstimator
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mirembed import Classification, MirembedError
from mirembed.testing import ConformanceError, check_learner
from mirembed.testing.suites import promises


class Nearest(BaseEstimator):
    """The label of the nearest track, whatever the task."""

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
    """Forgets to map positions among the classes of the training tracks back to classes."""

    def predict(self, X: np.ndarray) -> Any:
        predicted = super().predict(X)
        return predicted if predicted.ndim > 1 else np.searchsorted(np.unique(self.y_), predicted)


class Flat(Nearest):
    """Gives ``[n]`` for one target, as most of scikit-learn's do."""

    def predict(self, X: np.ndarray) -> Any:
        predicted = super().predict(X)
        return predicted.ravel() if predicted.shape[1:] == (1,) else predicted


class NotFinite(Nearest):
    def predict(self, X: np.ndarray) -> Any:
        predicted = super().predict(X)
        return predicted * np.inf if predicted.ndim > 1 else predicted


class Constant(Nearest):
    def predict(self, X: np.ndarray) -> Any:
        return np.repeat(self.y_[:1], len(X), axis=0)


class Noisy(Nearest):
    def fit(self, X: np.ndarray, y: np.ndarray) -> Noisy:
        super().fit(X, y)
        if y.ndim > 1:
            self.y_ += np.random.default_rng().normal(0, 1e-6, y.shape)
        return self


class Collecting(Nearest):
    """Goes on learning where it should begin anew."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Collecting:
        if hasattr(self, "X_"):
            X, y = np.concatenate([self.X_, X]), np.concatenate([self.y_, y])
        super().fit(X, y)
        return self

    def predict(self, X: np.ndarray) -> Any:
        predicted = super().predict(X)
        return predicted + len(self.y_) * 1e-9 if predicted.ndim > 1 else predicted


class Foreign:
    """No estimator of scikit-learn: it has no parameters that could be read."""

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
    """Saves less than it learned."""

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if "y_" in state:
            state["y_"] = np.zeros_like(state["y_"])
        return state


class Elsewhere(Nearest):
    """Of a package that is not the plugin's."""


Elsewhere.__module__ = "another_package"


class WithALambda:
    def estimator(self, task: object) -> object:
        return make_pipeline(FunctionTransformer(lambda X: X), Nearest())


SHARED = Nearest()


def learner(estimator: type) -> type:
    """A plugin whose estimator is always of this type."""

    class Learner:
        def estimator(self, task: object) -> object:
            return estimator()

    Learner.__module__ = __name__
    return Learner


class Shares:
    def estimator(self, task: object) -> object:
        return SHARED


class Untyped:
    def __init__(self, k=1) -> None:
        self.k = k

    def estimator(self, task: object) -> object:
        return Nearest()


BROKEN: dict[str, tuple[type, str, str]] = {
    "one estimator for all": (Shares, "estimator", "makes the same Nearest every time"),
    "parameter without annotation": (Untyped, "parameters", "k is '1' when a spec gives the default, 1"),
    "names of classes": (
        learner(Names),
        "classes learns",
        "predicts an array of shape [40] and type <U5, expected class indices of shape [40]\n"
        "  on: 40 embeddings of 4 classes\n  usual cause: the names of the classes",
    ),
    "one-hot classes": (learner(OneHot), "classes", "predicts an array of shape [40, 4] and type float64"),
    "positions of classes": (
        learner(Positions),
        "classes",
        "predicts [1], expected some of [0, 2, 3]\n  on: 30 embeddings of 4 classes, none of class 1\n",
    ),
    "a flat array for one target": (
        learner(Flat),
        "targets",
        "expected numbers of shape [40, 1]\n  on: 40 embeddings with 1 target(s)\n  usual cause: an estimator for one",
    ),
    "infinite predictions": (learner(NotFinite), "targets learns", "predicts values that are not finite"),
    "nothing learned": (
        learner(Constant),
        "learns",
        "predicts the tracks that it was fitted to with accuracy = 0.25, expected above 0.5",
    ),
    "random numbers": (
        learner(Noisy),
        "deterministic",
        "usual cause: random numbers without a seed: pass random_state=0",
    ),
    "a second fit goes on": (
        learner(Collecting),
        "refit",
        "predicts unlike one that was never fitted before: for track 0 ",
    ),
    "no estimator of scikit-learn": (
        learner(Foreign),
        "clone",
        "usual cause: an estimator of your own: derive it from sklearn.base.BaseEstimator",
    ),
    "a parameter that is changed": (learner(Rewriting), "clone", "cannot be cloned: RuntimeError: Cannot clone object"),
    "embeddings changed by fit": (learner(ClearsEmbeddings), "input-unchanged", "changes the embeddings in fit"),
    "embeddings changed by predict": (learner(ScalesToPredict), "input-unchanged", "changes the embeddings in predict"),
    "labels changed by fit": (learner(SortsLabels), "input-unchanged", "changes the labels in fit"),
    "a lambda": (WithALambda, "storable", "is stored, and cannot be loaded: AttributeError: "),
    "a class of another package": (learner(Elsewhere), "storable", "another_package.Elsewhere"),
    "part of the state": (
        learner(Forgetful),
        "storable",
        "predicts something else when it was stored and loaded: for track 1 0, expected 1",
    ),
}
"""Learners, which promises they break, and what is said."""


@pytest.mark.parametrize("fault", BROKEN)
def test_a_fault_is_found_and_nothing_else_is_blamed(fault):
    factory, names, fragment = BROKEN[fault]
    assert_breaks(failures("learner", factory), names, fragment)


def test_every_check_finds_a_fault():
    assert {names.split()[0] for _, names, _ in BROKEN.values()} == {p.name for p in promises("learner")}


class Neighbors:
    def __init__(self, *, k: int = 3) -> None:
        self.k = k

    def estimator(self, task: object) -> object:
        return (KNeighborsClassifier if isinstance(task, Classification) else KNeighborsRegressor)(self.k)


class ClassesOnly:
    def estimator(self, task: object) -> object:
        if not isinstance(task, Classification):
            raise MirembedError("classes-only predicts classes; for regression take svm")
        return KNeighborsClassifier(1)


class CrashesForRegression:
    def estimator(self, task: object) -> object:
        return KNeighborsClassifier(len(task.classes))


@pytest.mark.parametrize("sound", [Neighbors, learner(Nearest), ClassesOnly])
def test_a_sound_learner_fails_nothing_and_may_refuse_a_task(sound):
    assert failures("learner", sound) == {}


def test_a_task_is_refused_with_an_error_of_mirembed_and_no_other():
    with pytest.raises(ConformanceError) as error:
        check_learner(CrashesForRegression)
    assert str(error.value) == (
        "learner CrashesForRegression, estimator: makes no estimator: "
        "AttributeError: 'Regression' object has no attribute 'classes'\n"
        "  on: 40 embeddings with 3 target(s)\n"
        "  usual cause: a task that it does not do: raise MirembedError with a message that says so"
    )


def test_an_object_that_cannot_predict_is_no_estimator():
    with pytest.raises(ConformanceError, match="makes dict, which has no method fit"):
        check_learner(learner(dict))
    with pytest.raises(ConformanceError, match="makes the same type every time"):
        check_learner(type("Learner", (), {"estimator": lambda self, task: Nearest}))
