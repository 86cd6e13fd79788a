"""Proof that a plugin keeps its promises, for its own tests and for ``mirembed plugins check``.

In a plugin's test file::

    from mirembed.testing import similarity_checks

    @similarity_checks("laplacian", "laplacian:gamma=2")
    def test_laplacian(check):
        check()

Each check is one test of pytest. Without pytest, ``check_similarity("laplacian")`` runs them all. A plugin is given as
a spec, when it is installed, or as its factory. A promise that is broken raises `ConformanceError`: which one, on which
input, and what usually causes it.
"""

from mirembed.errors import ConformanceError
from mirembed.testing.checks import Check
from mirembed.testing.suites import (
    check_dataset,
    check_learner,
    check_similarity,
    dataset_checks,
    learner_checks,
    similarity_checks,
)

__all__ = [
    "Check",
    "ConformanceError",
    "check_dataset",
    "check_learner",
    "check_similarity",
    "dataset_checks",
    "learner_checks",
    "similarity_checks",
]
