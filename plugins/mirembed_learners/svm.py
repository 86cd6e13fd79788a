"""scikit-learn's support vector machine, as a classifier and a regressor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mirembed import Classification, Estimator, Task


@dataclass(frozen=True)
class Svm:
    """An SVC for classes, or one SVR per regression target.

    Parameters
    ----------
    kernel : str
        ``rbf``, scikit-learn's ``exp(-gamma |x - y|^2)``; ``match``, the learned similarity with its parameters; or
        any registered similarity, with parameters after colons: ``polynomial:c=1:d=3``.
    C : float
        The penalty for errors, above 0.
    gamma : float or "scale" or "match" or None
        The ``gamma`` of any kernel that has one, above 0. ``scale``, for ``rbf`` only, is 1 / (units * variance of
        embeddings); ``match`` is the ``gamma`` of the learned similarity. None means ``scale`` for ``rbf``, and the
        default of any other kernel.
    epsilon : float
        Half the width of the penalty-free tube, on targets scaled to [0, 1]; 0 or more. Regression only.

    Raises
    ------
    ValueError
        If a parameter has another value.
    """

    kernel: str = "rbf"
    C: float = 1.0
    gamma: float | Literal["scale", "match"] | None = None
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.C < math.inf:
            raise ValueError(f"C is {self.C}; expected a finite number above 0")
        if isinstance(self.gamma, int | float):
            if not 0 < self.gamma < math.inf:
                raise ValueError(f"gamma is {self.gamma!r}; expected a finite number above 0")
        elif self.gamma not in (None, "scale", "match"):
            raise ValueError(f"gamma is {self.gamma!r}; expected 'scale', 'match' or a finite number above 0")
        if self.gamma == "scale" and self.kernel != "rbf":
            raise ValueError(f"gamma=scale is only possible with kernel=rbf, not with kernel={self.kernel}; omit gamma")
        if self.gamma not in (None, "match") and self.kernel == "match":
            raise ValueError(f"gamma is {self.gamma!r}, but kernel=match takes it from the learned similarity")
        if not 0 <= self.epsilon < math.inf:
            raise ValueError(f"epsilon is {self.epsilon}; expected a finite number, 0 or more")

    @property
    def kernel_similarity(self) -> str | None:
        """The similarity used as the kernel; None if scikit-learn computes the kernel."""
        if self.kernel == "match":
            return "match"
        if self.kernel == "rbf" and self.gamma != "match":
            return None
        name, *parameters = self.kernel.split(":")
        if self.gamma is not None:
            parameters.append(f"gamma={self.gamma}")
        return f"{name}:{','.join(parameters)}" if parameters else name

    def estimator(self, task: Task) -> Estimator:
        """Return a new, unfitted ``SVC``, or a ``MultiOutputRegressor`` of ``SVR`` for regression."""
        from sklearn.multioutput import MultiOutputRegressor
        from sklearn.svm import SVC, SVR

        kernel = {"kernel": "rbf", "gamma": self.gamma or "scale"}
        if self.kernel_similarity is not None:
            kernel = {"kernel": "precomputed"}
        estimator: Estimator
        if isinstance(task, Classification):
            estimator = SVC(C=self.C, **kernel)
        else:
            estimator = MultiOutputRegressor(SVR(C=self.C, epsilon=self.epsilon, **kernel))
        return estimator
