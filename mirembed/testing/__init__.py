"""Conformance checks for plugins, used in their tests and by ``mirembed plugins check``.

In a plugin's test file::

    from mirembed.testing import similarity_checks

    @similarity_checks("laplacian", "laplacian:gamma=2")
    def test_laplacian(check):
        check()

Each check becomes one pytest test. Without pytest, ``check_similarity("laplacian")`` runs them all. A plugin is given
as a spec if it is installed, or as its factory. A failed check raises `ConformanceError`, which names the broken
promise, says what happened on which input, and gives the usual cause.
"""

from mirembed.errors import ConformanceError
from mirembed.testing.checks import (
    Check,
    check_dataset,
    check_features,
    check_learner,
    check_network,
    check_similarity,
    dataset_checks,
    features_checks,
    learner_checks,
    network_checks,
    similarity_checks,
)

__all__ = [
    "Check",
    "ConformanceError",
    "check_dataset",
    "check_features",
    "check_learner",
    "check_network",
    "check_similarity",
    "dataset_checks",
    "features_checks",
    "learner_checks",
    "network_checks",
    "similarity_checks",
]
