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
        ``rbf``, the only one so far.
    C : float
        Penalty of an error, above 0.
    gamma : float or "scale"
        Of the kernel ``exp(-gamma |x - y|^2)``, above 0; ``scale`` is 1 / (units * variance of embeddings).
    epsilon : float
        Half width of the tube without penalty, on targets scaled to [0, 1]; 0 or more. Regression only.

    Raises
    ------
    ValueError
        For any other value.
    """

    kernel: str = "rbf"
    C: float = 1.0
    gamma: float | Literal["scale"] = "scale"
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        if self.kernel != "rbf":
            raise ValueError(f"kernel is {self.kernel!r}: the only kernel is 'rbf'")
        if not 0 < self.C < math.inf:
            raise ValueError(f"C is {self.C}: expected a finite number above 0")
        if self.gamma != "scale" and not (isinstance(self.gamma, int | float) and 0 < self.gamma < math.inf):
            raise ValueError(f"gamma is {self.gamma!r}: expected 'scale' or a finite number above 0")
        if not 0 <= self.epsilon < math.inf:
            raise ValueError(f"epsilon is {self.epsilon}: expected a finite number, 0 or more")

    def estimator(self, task: Task) -> Estimator:
        """Return a new, unfitted ``SVC``, or for regression a ``MultiOutputRegressor`` of ``SVR``."""
        from sklearn.multioutput import MultiOutputRegressor
        from sklearn.svm import SVC, SVR

        estimator: Estimator
        if isinstance(task, Classification):
            estimator = SVC(kernel=self.kernel, C=self.C, gamma=self.gamma)
        else:
            svr = SVR(kernel=self.kernel, C=self.C, gamma=self.gamma, epsilon=self.epsilon)
            estimator = MultiOutputRegressor(svr)
        return estimator
