"""The built-in learner: a support vector machine."""

from __future__ import annotations

from mirembed import Register, hookimpl
from mirembed_learners.svm import Svm


@hookimpl
def mirembed_register_learners(register: Register) -> None:
    """Register the built-in learner."""
    register("svm", Svm, summary="Support vector machine: SVC for classes, one for each tag, one SVR per target")
