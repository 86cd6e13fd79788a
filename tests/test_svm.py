"""The built-in learner."""

from __future__ import annotations

import subprocess
import sys
import typing
from typing import Literal

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.svm import SVC, SVR

from mirembed import Classification, MirembedError, Regression, Tags, Target
from mirembed_learners import mirembed_register_learners
from mirembed_learners.svm import Svm

CLASSES = Classification(("blues", "jazz", "rock"))
TAGS = Tags(("calm", "drums", "piano"))
TARGETS = Regression((Target("arousal"), Target("valence")))


@pytest.fixture
def embeddings() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)


def test_classes_are_learned_by_an_svc_with_the_settings_of_the_paper(embeddings):
    classes = np.arange(30) % 3
    predicted = Svm().estimator(CLASSES).fit(embeddings, classes).predict(embeddings)
    expected = SVC(kernel="rbf", C=1.0, gamma="scale").fit(embeddings, classes).predict(embeddings)
    np.testing.assert_array_equal(predicted, expected)


def test_well_separated_classes_are_predicted(embeddings):
    classes = np.arange(30) % 3
    embeddings[:, 0] += 8 * classes
    estimator = Svm().estimator(CLASSES).fit(embeddings[:21], classes[:21])
    np.testing.assert_array_equal(estimator.predict(embeddings[21:]), classes[21:])


def test_each_target_has_an_svr_of_its_own(embeddings):
    targets = np.random.default_rng(1).uniform(size=(30, 2))
    predicted = Svm().estimator(TARGETS).fit(embeddings, targets).predict(embeddings)
    svr = SVR(kernel="rbf", C=1.0, gamma="scale", epsilon=0.1)
    expected = np.stack([svr.fit(embeddings, target).predict(embeddings) for target in targets.T], axis=1)
    np.testing.assert_array_equal(predicted, expected)


def test_each_tag_has_an_svc_of_its_own_against_the_rest(embeddings):
    tags = np.random.default_rng(1).integers(0, 2, (30, 3))
    fitted = Svm().estimator(TAGS).fit(embeddings, tags)
    of_tags = [SVC(kernel="rbf", C=1.0, gamma="scale").fit(embeddings, tag) for tag in tags.T]
    expected = np.stack([one.predict(embeddings) for one in of_tags], axis=1)
    np.testing.assert_array_equal(fitted.predict(embeddings), expected)
    expected = np.stack([one.decision_function(embeddings) for one in of_tags], axis=1)
    np.testing.assert_allclose(fitted.decision_function(embeddings), expected)


def test_balanced_class_weights_make_rare_classes_and_tags_count_as_much_as_frequent_ones(embeddings):
    balanced = Svm(class_weight="balanced")
    classes = np.repeat([0, 1, 2], [20, 6, 4])
    svc = SVC(class_weight={0: 30 / (3 * 20), 1: 30 / (3 * 6), 2: 30 / (3 * 4)}, decision_function_shape="ovo")
    expected = svc.fit(embeddings, classes).decision_function(embeddings)
    fitted = balanced.estimator(CLASSES).fit(embeddings, classes)
    np.testing.assert_allclose(fitted.decision_function(embeddings), expected)
    rare = np.arange(30) < 3
    tags = np.stack([rare, ~rare, np.arange(30) % 2], axis=1).astype(int)
    svc = SVC(class_weight={0: 30 / (2 * 27), 1: 30 / (2 * 3)})
    expected = svc.fit(embeddings, rare).decision_function(embeddings)
    fitted = balanced.estimator(TAGS).fit(embeddings, tags)
    np.testing.assert_allclose(fitted.decision_function(embeddings)[:, 0], expected)


def test_a_regression_has_no_class_weights():
    with pytest.raises(MirembedError, match="class_weight is 'balanced'"):
        Svm(class_weight="balanced").estimator(TARGETS)


def test_a_single_target_keeps_its_column(embeddings):
    estimator = Svm().estimator(Regression((Target("valence"),)))
    assert estimator.fit(embeddings, np.linspace(0, 1, 30)[:, None]).predict(embeddings).shape == (30, 1)


def test_parameters_reach_the_estimator():
    svm = Svm(C=3.0, gamma=0.5, epsilon=0.01)
    assert svm.estimator(CLASSES).get_params().items() >= {"C": 3.0, "gamma": 0.5}.items()
    regressor = svm.estimator(TARGETS).get_params()
    assert regressor.items() >= {"estimator__C": 3.0, "estimator__gamma": 0.5, "estimator__epsilon": 0.01}.items()


@pytest.mark.parametrize("task", [CLASSES, TAGS, TARGETS])
def test_each_call_builds_a_new_estimator_that_can_be_cloned(task):
    svm = Svm()
    first, second = svm.estimator(task), svm.estimator(task)
    assert first is not second
    assert repr(clone(first)) == repr(second)


@pytest.mark.parametrize(
    "parameters",
    [
        {"C": 0.0},
        {"C": float("nan")},
        {"gamma": 0.0},
        {"gamma": float("inf")},
        {"gamma": "auto"},
        {"epsilon": -0.1},
    ],
)
def test_an_error_about_a_parameter_gives_its_name_and_value(parameters):
    [(name, value)] = parameters.items()
    with pytest.raises(ValueError, match=rf"{name} is {value!r}\b|{name} is {value!r};"):
        Svm(**parameters)


@pytest.mark.parametrize(
    ("parameters", "similarity"),
    [
        ({}, None),
        ({"gamma": "scale"}, None),
        ({"gamma": 2.0}, None),
        ({"gamma": "match"}, "rbf:gamma=match"),
        ({"kernel": "match"}, "match"),
        ({"kernel": "match", "gamma": "match"}, "match"),
        ({"kernel": "cosine"}, "cosine"),
        ({"kernel": "polynomial", "gamma": 2.0}, "polynomial:gamma=2.0"),
        ({"kernel": "polynomial:c=1:d=3"}, "polynomial:c=1,d=3"),
        ({"kernel": "polynomial:d=3", "gamma": "match"}, "polynomial:d=3,gamma=match"),
        ({"kernel": "mirembed-extra/rbf:gamma=2"}, "mirembed-extra/rbf:gamma=2"),
    ],
)
@pytest.mark.parametrize("task", [CLASSES, TAGS, TARGETS])
def test_every_kernel_but_scikit_learns_own_rbf_is_precomputed(parameters, similarity, task):
    svm = Svm(**parameters)
    assert svm.kernel_similarity == similarity
    estimator = svm.estimator(task)
    kernel = (estimator if task is CLASSES else estimator.estimator).kernel
    assert kernel == ("rbf" if similarity is None else "precomputed")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kernel": "cosine", "gamma": "scale"}, "gamma=scale.*kernel=cosine"),
        ({"kernel": "match", "gamma": 2.0}, r"gamma is 2\.0.*kernel=match"),
    ],
)
def test_a_gamma_that_the_kernel_does_not_have_is_an_error(parameters, message):
    with pytest.raises(ValueError, match=message):
        Svm(**parameters)


def test_the_plugin_registers_svm():
    registered = {}
    mirembed_register_learners(lambda name, factory, *, summary="": registered.update({name: factory()}))
    assert registered == {"svm": Svm(kernel="rbf", C=1.0, gamma=None, epsilon=0.1)}


def test_the_parameters_can_be_read_from_the_annotations():
    assert typing.get_type_hints(Svm.__init__)["gamma"] == float | Literal["scale", "match"] | None


def test_importing_the_plugin_does_not_import_scikit_learn():
    code = "import sys, mirembed_learners; sys.exit('sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
