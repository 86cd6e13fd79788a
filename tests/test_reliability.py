"""The reliability of probabilities, against the definition and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from mirembed import Classification, Regression, Tags, Target
from mirembed.runs.reliability import reliability
from mirembed.runs.tables import Predictions

CLASSES = Classification(("blues", "jazz", "rock"))
TAGS = Tags(("calm", "loud"))


def predictions(truth: np.ndarray, probabilities: np.ndarray | None) -> Predictions:
    n = len(truth)
    ids = np.array([str(number) for number in range(n)])
    zeros = np.zeros(n, np.int64)
    return Predictions(zeros, zeros, ids, truth, truth, probabilities=probabilities)


def draw(n: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities of three classes, and classes drawn by them."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([0.5, 0.5, 0.5], n)
    return probabilities, np.array([[rng.choice(3, p=row)] for row in probabilities])


def test_the_curve_of_classes_is_that_of_scikit_learn_for_the_most_probable_class():
    probabilities, truth = draw()
    found = reliability(predictions(truth, probabilities), CLASSES)
    right = probabilities.argmax(axis=1) == truth[:, 0]
    frequency, probability = calibration_curve(right, probabilities.max(axis=1), n_bins=10)
    filled = found.counts > 0
    np.testing.assert_allclose(found.frequency[filled], frequency)
    np.testing.assert_allclose(found.probability[filled], probability)
    assert found.counts.sum() == 500
    assert found.error == pytest.approx(np.sum(np.abs(frequency - probability) * found.counts[filled]) / 500)


def test_honest_probabilities_have_a_small_error_and_exaggerated_ones_a_large_error():
    probabilities, truth = draw(5000)
    sharp = probabilities**3 / (probabilities**3).sum(axis=1, keepdims=True)
    assert reliability(predictions(truth, probabilities), CLASSES).error < 0.03
    assert reliability(predictions(truth, sharp), CLASSES).error > 0.1


def test_the_brier_score_is_a_sum_over_classes_and_a_mean_over_tags():
    probabilities, truth = draw()
    ours = reliability(predictions(truth, probabilities), CLASSES).brier
    by_class = [brier_score_loss(truth[:, 0] == number, probabilities[:, number]) for number in range(3)]
    assert ours == pytest.approx(sum(by_class))
    tags = (np.random.default_rng(1).random((500, 2)) < 0.3).astype(np.int64)
    ours = reliability(predictions(tags, probabilities[:, :2]), TAGS).brier
    by_tag = [brier_score_loss(tags[:, number], probabilities[:, number]) for number in range(2)]
    assert ours == pytest.approx(np.mean(by_tag))


def test_every_tag_of_every_track_counts():
    tags, stated = np.array([[1, 0], [0, 0]]), np.array([[1.0, 0.25], [0.25, 0.25]])
    found = reliability(predictions(tags, stated), TAGS, n_bins=4)
    assert found.counts.tolist() == [0, 3, 0, 1]
    assert found.frequency[1] == 0
    assert found.error == pytest.approx(0.25 * 3 / 4)


def test_there_is_no_reliability_without_probabilities():
    truth = np.zeros((4, 1))
    assert reliability(predictions(truth, None), CLASSES) is None
    assert reliability(predictions(truth, None), Regression((Target("height"),))) is None
