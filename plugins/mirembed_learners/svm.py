"""The support vector machine of scikit-learn, as classifier and as regressor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mirembed import Classification, Estimator, Task


@dataclass(frozen=True)
class Svm:
    """SVC for classes, one SVR for each regression target.

    Parameters
    ----------
    kernel : str
        ``rbf``, the one of scikit-learn, ``exp(-gamma |x - y|^2)``; ``match``, the learned similarity, with its
        parameters; or any registered similarity, whose parameters follow after colons: ``polynomial:c=1:d=3``.
    C : float
        Penalty of an error, above 0.
    gamma : float or "scale" or "match" or None
        Of any kernel that has a ``gamma``, above 0. ``scale``, for ``rbf`` only, is 1 / (units * variance of
        embeddings); ``match`` is that of the learned similarity. None: ``scale`` for ``rbf``, and for other kernels
        their own.
    epsilon : float
        Half width of the tube without penalty, on targets scaled to [0, 1]; 0 or more. Regression only.

    Raises
    ------
    ValueError
        For any other value.
    """

    kernel: str = "rbf"
    C: float = 1.0
    gamma: float | Literal["scale", "match"] | None = None
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.C < math.inf:
            raise ValueError(f"C is {self.C}: expected a finite number above 0")
        if isinstance(self.gamma, int | float):
            if not 0 < self.gamma < math.inf:
                raise ValueError(f"gamma is {self.gamma!r}: expected a finite number above 0")
        elif self.gamma not in (None, "scale", "match"):
            raise ValueError(f"gamma is {self.gamma!r}: expected 'scale', 'match' or a finite number above 0")
        if self.gamma == "scale" and self.kernel != "rbf":
            raise ValueError(f"gamma is 'scale', which kernel=rbf has, but not kernel={self.kernel}; leave it out")
        if self.gamma not in (None, "match") and self.kernel == "match":
            raise ValueError(f"gamma is {self.gamma!r}: kernel=match has that of the learned similarity; leave it out")
        if not 0 <= self.epsilon < math.inf:
            raise ValueError(f"epsilon is {self.epsilon}: expected a finite number, 0 or more")

    @property
    def kernel_similarity(self) -> str | None:
        """The similarity that is the kernel; None where scikit-learn computes it."""
        if self.kernel == "match":
            return "match"
        if self.kernel == "rbf" and self.gamma != "match":
            return None
        name, *parameters = self.kernel.split(":")
        if self.gamma is not None:
            parameters.append(f"gamma={self.gamma}")
        return f"{name}:{','.join(parameters)}" if parameters else name

    def estimator(self, task: Task) -> Estimator:
        """Return a new, unfitted ``SVC``, or for regression a ``MultiOutputRegressor`` of ``SVR``."""
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
