"""Fitted learners on disk: scikit-learn's own are kept and loaded, and what could run code is not."""

from __future__ import annotations

import numpy as np
import pytest
import skops.io
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import all_estimators
from sklearn.utils._testing import assert_run_python_script_without_output

from mirembed.errors import ModelError
from mirembed.models.estimators import check_storable, dump_estimator, load_estimator
from mirembed.registry import Plugin, Registry
from mirembed.specs import Spec

MANIFEST = {"provenance": {"learner": {"name": "any", "distribution": "mirembed-any", "version": "1.0"}}}
REGISTRY = Registry([Plugin("learner", "any", object, "", "mirembed-any", "1.0")])
KEPT = {
    *("RandomForestClassifier", "GradientBoostingClassifier", "HistGradientBoostingClassifier", "MLPClassifier"),
    *("KNeighborsClassifier", "GaussianProcessClassifier", "LogisticRegression", "AdaBoostClassifier", "SVC"),
    *("CalibratedClassifierCV", "LinearDiscriminantAnalysis", "BaggingClassifier", "ExtraTreesClassifier"),
    *("RandomForestRegressor", "GaussianProcessRegressor", "KernelRidge", "MLPRegressor", "TweedieRegressor"),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", sorted(KEPT))
def test_the_estimators_of_scikit_learn_are_loaded_as_they_were_kept(name, tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 5)).astype(np.float32), np.arange(30) % 3
    estimator = dict(all_estimators())[name]().fit(X[:25], y[:25])
    check_storable(estimator, Spec("any"), REGISTRY)
    (tmp_path / "learner.skops").write_bytes(dump_estimator(estimator))
    loaded = load_estimator(tmp_path / "learner.skops", MANIFEST, REGISTRY)
    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))


def test_a_function_of_scikit_learn_that_runs_programs_is_refused(tmp_path):
    path = tmp_path / "learner.skops"
    path.write_bytes(skops.io.dumps(FunctionTransformer(func=assert_run_python_script_without_output)))
    with pytest.raises(
        ModelError, match=r"holds types that neither scikit-learn nor mirembed-any defines: sklearn\.utils"
    ):
        load_estimator(path, MANIFEST, REGISTRY)
