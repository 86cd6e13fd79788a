"""Fitted estimators on disk: those of scikit-learn are saved and loaded; types that could run code are refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import skops.io
from conftest import clean_environment
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from sklearn.utils import all_estimators
from sklearn.utils._testing import assert_run_python_script_without_output
from skops.io import _trusted_types

from mirembed.errors import ModelError
from mirembed.models.estimators import check_storable, dump_estimator, load_estimator
from mirembed.registry import Plugin, Registry
from mirembed.specs import Spec

LEARNER = {"name": "any", "distribution": "mirembed-any", "version": "1.0"}
REGISTRY = Registry([Plugin("learner", "any", object, "", "mirembed-any", "1.0")])
SAVED = {
    *("RandomForestClassifier", "GradientBoostingClassifier", "HistGradientBoostingClassifier", "MLPClassifier"),
    *("KNeighborsClassifier", "GaussianProcessClassifier", "LogisticRegression", "AdaBoostClassifier", "SVC"),
    *("CalibratedClassifierCV", "LinearDiscriminantAnalysis", "BaggingClassifier", "ExtraTreesClassifier"),
    *("RandomForestRegressor", "GaussianProcessRegressor", "KernelRidge", "MLPRegressor", "TweedieRegressor"),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", sorted(SAVED))
def test_a_loaded_estimator_of_scikit_learn_predicts_as_the_saved_one(name, tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 5)).astype(np.float32), np.arange(30) % 3
    estimator = dict(all_estimators())[name]().fit(X[:25], y[:25])
    check_storable(estimator, Spec("any"), REGISTRY)
    (tmp_path / "learner.skops").write_bytes(dump_estimator(estimator))
    loaded = load_estimator(tmp_path / "learner.skops", LEARNER, REGISTRY)
    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))


def test_a_function_of_scikit_learn_that_runs_programs_is_refused(tmp_path):
    path = tmp_path / "learner.skops"
    path.write_bytes(skops.io.dumps(FunctionTransformer(func=assert_run_python_script_without_output)))
    with pytest.raises(ModelError, match=r"not loaded.* sklearn\.utils\._testing\.assert_run_python"):
        load_estimator(path, LEARNER, REGISTRY)


LOAD = """
import sys
from pathlib import Path
from mirembed.errors import ModelError
from mirembed.models.estimators import load_estimator
from mirembed.registry import Registry

good, bad = map(Path, sys.argv[1:])
print(type(load_estimator(good, {}, Registry([]))).__name__)
assert "sklearn.neural_network" not in sys.modules, "all of scikit-learn was imported"
assert "torch" not in sys.modules, "torch was imported"
learner = {"name": "svm", "distribution": "mirembed", "version": "1.0"}
try:
    load_estimator(bad, learner, Registry.discover())
except ModelError as error:
    print(error)
"""


def test_an_estimator_is_loaded_without_importing_all_of_scikit_learn(tmp_path):
    good, bad = tmp_path / "good.skops", tmp_path / "bad.skops"
    good.write_bytes(dump_estimator(SVC().fit([[0.0], [1.0]], [0, 1])))
    bad.write_bytes(skops.io.dumps(FunctionTransformer(func=assert_run_python_script_without_output)))
    completed = subprocess.run(
        [sys.executable, "-c", LOAD, good, bad], capture_output=True, text=True, check=True, env=clean_environment()
    )
    loaded, refused = completed.stdout.splitlines()
    assert loaded == "SVC"
    assert "sklearn.utils._testing.assert_run_python_script_without_output" in refused
    assert "FunctionTransformer" not in refused


ROUND_TRIP = """
import sys
from pathlib import Path
from threading import Thread
import sklearn.utils
from mirembed.models.estimators import load_estimator
from mirembed.registry import Registry

def load():
    load_estimator(Path(sys.argv[1]), {}, Registry([]))

all_estimators = sklearn.utils.all_estimators
threads = [Thread(target=load) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
load()
assert sklearn.utils.all_estimators is all_estimators

import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

pipeline = make_pipeline(SVC().fit([[0.0], [1.0]], [0, 1]), LogisticRegression())
data = skops.io.dumps(pipeline)
print(skops.io.get_untrusted_types(data=data))
print(*(type(step).__name__ for _, step in skops.io.loads(data).steps))
load()
from skops.io import _trusted_types

names = [*_trusted_types.SKLEARN_ESTIMATOR_TYPE_NAMES]
print(len(names), "sklearn.svm._classes.SVC" in names)
"""


def test_skops_serves_others_as_before_once_an_estimator_was_loaded(tmp_path):
    path = tmp_path / "learner.skops"
    path.write_bytes(dump_estimator(SVC().fit([[0.0], [1.0]], [0, 1])))
    completed = subprocess.run(
        [sys.executable, "-c", ROUND_TRIP, path], capture_output=True, text=True, check=True, env=clean_environment()
    )
    names = _trusted_types.SKLEARN_ESTIMATOR_TYPE_NAMES  # of this process, where skops was imported first
    assert completed.stdout.splitlines() == ["[]", "SVC LogisticRegression", f"{len(names)} True"]
