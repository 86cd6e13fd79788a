import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from mirembed import Classification, Regression, Target
from mirembed.testing import learner_checks
from mirembed_forest import Forest

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5)).astype(np.float32)
CLASSES = np.digitize(X[:, 0] + RNG.normal(0, 0.5, 60), [-0.5, 0.5])
TARGETS = np.stack([X[:, 0] * X[:, 1], X[:, 2]], axis=1) + RNG.normal(0, 0.1, (60, 2))


@learner_checks(Forest)
def test_it_passes_every_check_of_a_learner(check):
    check()


@pytest.mark.parametrize("depth", [None, 2])
def test_its_predictions_match_scikit_learn(depth):
    options = {"n_estimators": 20, "max_depth": depth, "random_state": 3}
    learner = Forest(trees=20, depth=depth, seed=3)

    forest = learner.estimator(Classification(("a", "b", "c"))).fit(X[:40], CLASSES[:40])
    expected = RandomForestClassifier(**options).fit(X[:40], CLASSES[:40])
    np.testing.assert_array_equal(forest.predict(X), expected.predict(X))

    forest = learner.estimator(Regression((Target("a"), Target("b")))).fit(X[:40], TARGETS[:40])
    expected = [RandomForestRegressor(**options).fit(X[:40], target[:40]).predict(X) for target in TARGETS.T]
    np.testing.assert_array_equal(forest.predict(X), np.column_stack(expected))


@pytest.mark.parametrize(("name", "value"), [("trees", 0), ("depth", 0), ("seed", -1)])
def test_a_value_out_of_range_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        Forest(**{name: value})
