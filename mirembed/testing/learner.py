"""The checks of a learner: every public function is one.

The embeddings are synthetic: float32 ``[n, 50]``, in clusters that any learner can separate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import SkipTest

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import MirembedError, ModelError
from mirembed.hookspecs import Classification, Estimator, Regression, Tags, Target, Task
from mirembed.models.estimators import check_storable
from mirembed.models.learners import takes_groups
from mirembed.models.outputs import tag_scores
from mirembed.progress import counted
from mirembed.registry.plugins import one_line
from mirembed.testing import Broken, Subject, broken_by_errors

UNITS = 50
CLASSES = Classification(("blues", "jazz", "pop", "rock"))
TAGS = Tags(("calm", "drums", "piano"))
ONE_TARGET = Regression((Target("valence", 0, 1),))
THREE_TARGETS = Regression((Target("valence", 0, 1), Target("arousal", 0, 1), Target("tension", 0, 1)))


@dataclass(frozen=True)
class Problem:
    """Embeddings and labels for a task.

    Attributes
    ----------
    given : str
        Its description in messages.
    task : Classification, Tags or Regression
    X : ndarray [n, UNITS], float32
    y : ndarray
        Class indices ``[n]``, int64; tags ``[n, n_tags]``, int64 0 or 1; or targets ``[n, n_targets]``, float64 from 0
        to 1.
    """

    given: str
    task: Task
    X: NDArray[np.float32]
    y: NDArray[Any]


def estimator(subject: Subject) -> None:
    """Make a new object with fit and predict for a task, or raise MirembedError for an unsupported task."""
    for problem in _problems(subject):
        first, second = subject.create().estimator(problem.task), subject.create().estimator(problem.task)
        for method in ("fit", "predict"):
            if not callable(getattr(first, method, None)):
                raise Broken(
                    f"makes {type(first).__name__}, which has no method {method}",
                    given=problem.given,
                    cause="a missing return, or returning a class: return Estimator(), not Estimator",
                )
        if first is second or isinstance(first, type):
            raise Broken(
                f"makes the same {type(first).__name__} every time",
                given=problem.given,
                cause="an estimator made once in the factory, or a class: make a new one in estimator(task)",
            )


def classes(subject: Subject) -> None:
    """Predict class indices [n] seen in training, even if a class has no training tracks."""
    cause = "class names, or probabilities or one-hot vectors [n, n_classes]: take the argmax"
    for problem in _problems(subject, _classes(), _classes(without=1)):
        predicted = _fitted_predictions(subject, problem)
        _require_numbers(predicted, problem, "class indices", cause)
        if strange := sorted({*predicted.tolist()} - {*problem.y.tolist()}):
            raise Broken(
                f"predicts {strange}, expected some of {sorted({*problem.y.tolist()})}",
                given=problem.given,
                cause="indices into the training classes: map them back with estimator.classes_",
            )


def tags(subject: Subject) -> None:
    """Predict 0 or 1 for each tag [n, n_tags], and score tracks that have a tag higher than others."""
    cause = "an estimator for classes, or probabilities: wrap it in sklearn's OneVsRestClassifier"
    for problem in _problems(subject, _tags()):
        fitted = _fit(subject, subject.create().estimator(problem.task), problem)
        predicted = _predict(fitted, problem)
        _require_numbers(predicted, problem, "0 or 1 for each tag", cause)
        if strange := sorted({*predicted.ravel().tolist()} - {0, 1}):
            raise Broken(f"predicts {strange}, expected 0 or 1", given=problem.given, cause=cause)
        _require_ranking(fitted, problem)


def groups(subject: Subject) -> None:
    """Fit with the groups of the tracks, if it takes groups; have True or False as takes_groups."""
    found = getattr(subject.create(), "takes_groups", None)
    if found is None:
        raise SkipTest("it has no takes_groups")
    if not isinstance(found, bool):
        raise Broken(f"has takes_groups={found!r}, expected True or False", given="takes_groups", cause="a method")
    if not found:
        raise SkipTest("its takes_groups is False")
    for problem in _problems(subject):
        with broken_by_errors(
            "fails to fit with groups",
            given=f"{problem.given}, groups of 2 tracks",
            cause="an estimator whose fit takes no groups, or a splitter that needs more groups: wrap the estimator in "
            "sklearn's GridSearchCV with a GroupKFold",
        ):
            _fit(subject, subject.create().estimator(problem.task), problem)


def targets(subject: Subject) -> None:
    """Predict finite values [n, n_targets], even if there is only one target."""
    cause = "an estimator for one target, which returns [n]: wrap it in sklearn's MultiOutputRegressor"
    for problem in _problems(subject, _targets(ONE_TARGET), _targets(THREE_TARGETS)):
        predicted = _fitted_predictions(subject, problem)
        _require_numbers(predicted, problem, "numbers", cause)
        if not np.isfinite(predicted).all():
            raise Broken("predicts values that are not finite", given=problem.given, cause="a division by 0")


def learns(subject: Subject) -> None:
    """Beat chance on embeddings that any learner can separate."""
    for problem in _problems(subject):
        predicted = _fitted_predictions(subject, problem)
        if predicted.shape != problem.y.shape:
            raise SkipTest(f"its predictions have the shape {list(predicted.shape)}, which cannot be scored")
        if not isinstance(problem.task, Regression):
            score, measure = float((predicted == problem.y).mean()), "accuracy"
        else:
            score, measure = _least_correlation(predicted, problem.y), "r"
        if not score > 0.5:
            raise Broken(
                f"predicts its own training tracks with {measure} = {score:.2f}, expected above 0.5",
                given=problem.given,
                cause="labels in a different order from embeddings, far too much regularization, or too few iterations",
            )


def deterministic(subject: Subject) -> None:
    """Predict the same, to the bit, when fitted again to the same tracks."""
    cause = "unseeded random numbers: pass random_state=0, or a parameter of the plugin"
    for problem in _problems(subject):
        first, second = (_fitted_predictions(subject, problem) for _ in range(2))
        _require_same(second, first, "predicts something different when fitted again", problem, cause)


def refit(subject: Subject) -> None:
    """Forget earlier training tracks when fitted to others."""
    cause = "warm_start=True, or a fit that adds to earlier state: reset the state in fit"
    pairs = (
        (_classes(), _classes(without=1)),
        (_tags(), _tags(seed=1)),
        (_targets(THREE_TARGETS), _targets(THREE_TARGETS, seed=1)),
    )
    for before, problem in pairs:
        for _ in _problems(subject, problem):
            expected = _fitted_predictions(subject, problem)
            if not np.array_equal(expected, _fitted_predictions(subject, problem)):
                raise SkipTest("it is not deterministic, so this cannot be checked")
            used = _fit(subject, _fit(subject, subject.create().estimator(problem.task), before), problem)
            what = "differs from an estimator that was never fitted before"
            _require_same(_predict(used, problem), expected, what, problem, cause)


def clone(subject: Subject) -> None:
    """Make estimators that scikit-learn can clone, and whose clones fit and predict."""
    from sklearn.base import clone as cloned

    cause = (
        "a custom estimator: derive it from sklearn.base.BaseEstimator, and let __init__ only store each parameter, "
        "unchanged, under its own name"
    )
    for problem in _problems(subject):
        with broken_by_errors("cannot be cloned", given=problem.given, cause=cause):
            copy = cloned(subject.create().estimator(problem.task))
        _predict(_fit(subject, copy, problem), problem)


def input_unchanged(subject: Subject) -> None:
    """Leave embeddings and labels unchanged in fit and in predict."""
    for problem in _problems(subject):
        X, y = problem.X.copy(), problem.y.copy()
        fitted = subject.create().estimator(problem.task)
        for method, arguments in (("fit", (X, y)), ("predict", (X,))):
            extra = _groups(subject, problem) if method == "fit" else {}
            _call(getattr(fitted, method), *arguments, given=problem.given, doing=method, **extra)
            if not (np.array_equal(X, problem.X) and np.array_equal(y, problem.y)):
                changed = "the labels" if np.array_equal(X, problem.X) else "the embeddings"
                raise Broken(
                    f"changes {changed} in {method}",
                    given=problem.given,
                    cause="an in-place operation (X -= ..., X /= ...), or a scaler with copy=False",
                )


def storable(subject: Subject) -> None:
    """Make estimators that skops can store without code, and that predict the same, to the bit, once loaded."""
    import skops.io

    for problem in _problems(subject):
        fitted = _fit(subject, subject.create().estimator(problem.task), problem)
        fitted = getattr(fitted, "best_estimator_", fitted)  # of a search of scikit-learn, mirembed stores only this
        try:
            check_storable(fitted, subject.spec, subject.registry)
        except ModelError as error:
            raise Broken(
                f"cannot be stored: {error}",
                given=problem.given,
                cause="a function passed to the estimator, or a class from another package: keep what was learned as "
                "numpy arrays in a class of your own",
            ) from error
        data = skops.io.dumps(fitted)
        with broken_by_errors(
            "cannot be loaded after it was stored",
            given=problem.given,
            cause="a lambda, or a class defined inside a function: define it at the top level of a module",
        ):
            loaded = skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))
        what = "predicts something different once stored and loaded"
        cause = "learned state that is not an attribute of the estimator, such as a cache or a global"
        _require_same(_predict(loaded, problem), _predict(fitted, problem), what, problem, cause)


def _classes(without: int | None = None) -> Problem:
    """Return 10 tracks of each of four classes, or of the other three."""
    rng = np.random.default_rng(0)
    centers = rng.uniform(-0.5, 0.5, (len(CLASSES.classes), UNITS))
    y = np.arange(40) % 4
    X = (centers[y] + rng.normal(0, 0.05, (len(y), UNITS))).astype(np.float32)
    kept = y != without
    given = "40 embeddings of 4 classes" if without is None else f"30 embeddings of 4 classes, none of class {without}"
    return Problem(given, CLASSES, X[kept], y[kept])


def _tags(seed: int = 0) -> Problem:
    """Return 40 tracks whose embeddings are sums of vectors for their tags; some tracks have none."""
    rng = np.random.default_rng(seed)
    y = (np.arange(40)[:, None] >> np.arange(len(TAGS.classes))) % 2
    X = y @ rng.uniform(-1, 1, (len(TAGS.classes), UNITS)) + rng.normal(0, 0.05, (40, UNITS))
    return Problem("40 embeddings with any of 3 tags", TAGS, X.astype(np.float32), y)


def _targets(task: Regression, seed: int = 0) -> Problem:
    """Return 40 tracks whose embeddings are functions of their targets."""
    rng = np.random.default_rng(seed)
    y = rng.uniform(0, 1, (40, len(task.targets)))
    X = (y - 0.5) @ rng.uniform(-1, 1, (len(task.targets), UNITS)) + rng.normal(0, 0.02, (40, UNITS))
    return Problem(f"40 embeddings with {counted(len(task.targets), 'target')}", task, X.astype(np.float32), y)


def _problems(subject: Subject, *problems: Problem) -> Iterator[Problem]:
    """Yield the problems whose tasks the learner supports; by default, one for each task.

    Raises
    ------
    unittest.SkipTest
        If it supports none of them.
    """
    learner = subject.create()
    unsupported, found = "", False
    for problem in problems or (_classes(), _tags(), _targets(THREE_TARGETS)):
        try:
            learner.estimator(problem.task)
        except MirembedError as error:
            unsupported = str(error)
            continue
        except Exception as error:
            raise Broken(
                f"cannot make an estimator: {one_line(error)}",
                given=problem.given,
                cause="an unsupported task: raise MirembedError with a message that says so",
            ) from error
        found = True
        yield problem
    if not found:
        raise SkipTest(f"it does not support this task: {unsupported}")


def _fit(subject: Subject, estimator: Estimator, problem: Problem) -> Estimator:
    arrays = problem.X.copy(), problem.y.copy()
    _call(estimator.fit, *arrays, given=problem.given, doing="fit", **_groups(subject, problem))
    return estimator


def _groups(subject: Subject, problem: Problem) -> dict[str, NDArray[np.int64]]:
    """Return the groups of two tracks that a learner which takes groups is fitted with."""
    return {"groups": np.arange(len(problem.X)) // 2} if takes_groups(subject.registry, subject.spec) else {}


def _predict(fitted: Estimator, problem: Problem) -> NDArray[Any]:
    return np.asarray(_call(fitted.predict, problem.X.copy(), given=problem.given, doing="predict"))


def _fitted_predictions(subject: Subject, problem: Problem) -> NDArray[Any]:
    return _predict(_fit(subject, subject.create().estimator(problem.task), problem), problem)


def _call(method: Callable[..., Any], *arrays: NDArray[Any], given: str, doing: str, **named: NDArray[np.int64]) -> Any:
    cause = "an estimator that expects y [n] but gets [n, n_tags] or [n, n_targets], or that expects more classes"
    with broken_by_errors(f"fails to {doing}", given=given, cause=cause):
        return method(*arrays, **named)


def _least_correlation(predicted: NDArray[Any], y: NDArray[np.float64]) -> float:
    """Return the smallest r over the targets, where a constant prediction counts as 0."""
    centered, centered_y = predicted - predicted.mean(axis=0), y - y.mean(axis=0)
    norms = np.linalg.norm(centered, axis=0) * np.linalg.norm(centered_y, axis=0)
    return float(((centered * centered_y).sum(axis=0) / np.maximum(norms, 1e-12)).min())


def _require_ranking(fitted: Estimator, problem: Problem) -> None:
    """Raise `Broken` unless the scores of tags are finite, and on average higher for the tracks that have the tag."""
    task = problem.task
    assert isinstance(task, Tags)  # noqa: S101
    try:
        scores = tag_scores(fitted, "its estimator", task, problem.X.copy())
    except MirembedError as error:
        raise Broken(
            f"cannot score tags: {error}",
            given=problem.given,
            cause="a decision_function or predict_proba in another form: expected [n, n_tags]",
        ) from error
    has = problem.y > 0
    for number, tag in enumerate(task.classes):
        with_tag, without = scores[has[:, number], number].mean(), scores[~has[:, number], number].mean()
        if not with_tag > without:
            raise Broken(
                f"scores tracks with the tag {tag!r} with {with_tag:.3g} on average, others with {without:.3g}",
                given=problem.given,
                cause="a decision_function or predict_proba of the absence of the tag, or tags in another order",
            )


def _require_numbers(predicted: NDArray[Any], problem: Problem, expected: str, cause: str) -> None:
    """Raise `Broken` unless predictions are numbers in an array of the shape of the labels."""
    if predicted.shape != problem.y.shape or predicted.dtype.kind not in "iuf":
        raise Broken(
            f"predicts an array of shape {list(predicted.shape)} and type {predicted.dtype}, "
            f"expected {expected} of shape {list(problem.y.shape)}",
            given=problem.given,
            cause=cause,
        )


def _require_same(values: NDArray[Any], expected: NDArray[Any], what: str, problem: Problem, cause: str) -> None:
    """Raise `Broken` unless two arrays of predictions are equal."""
    if np.array_equal(values, expected):
        return
    if values.shape != expected.shape:
        difference = f"an array of shape {list(values.shape)}, expected {list(expected.shape)}"
    else:
        index = tuple(int(i) for i in np.argwhere(values != expected)[0])
        difference = f"{values[index]} for track {index[0]}, expected {expected[index]}"
    raise Broken(f"{what}: {difference}", given=problem.given, cause=cause)
