"""scikit-learn's support vector machine, for classes, tags and regression targets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from mirembed import Estimator, MirembedError, Regression, Tags, Task

CITATION = """\
@article{cortes1995,
  author  = {Cortes, Corinna and Vapnik, Vladimir},
  title   = {Support-Vector Networks},
  journal = {Machine Learning},
  volume  = {20},
  number  = {3},
  pages   = {273--297},
  year    = {1995},
  doi     = {10.1007/BF00994018}
}
@article{chang2011,
  author  = {Chang, Chih-Chung and Lin, Chih-Jen},
  title   = {{LIBSVM}: A Library for Support Vector Machines},
  journal = {ACM Transactions on Intelligent Systems and Technology},
  volume  = {2},
  number  = {3},
  pages   = {27:1--27:27},
  year    = {2011},
  doi     = {10.1145/1961189.1961199}
}"""


@dataclass(frozen=True)
class Svm:
    """An SVC for classes, one SVC for each tag (one against the rest), or one SVR for each regression target.

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
    class_weight : "balanced" or None
        ``balanced`` multiplies C, for each class, by n_tracks / (n_classes * tracks of the class), and for each tag
        likewise with the tracks that have it and those that lack it. Not for regression.

    Raises
    ------
    ValueError
        If a parameter has another value.
    """

    kernel: str = "rbf"
    C: float = 1.0
    gamma: float | Literal["scale", "match"] | None = None
    epsilon: float = 0.1
    class_weight: Literal["balanced"] | None = None

    citation: ClassVar[str] = CITATION

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

    def description(self, task: Task) -> str:
        """Return what it is, for a paper."""
        gamma = "" if self.gamma in (None, "scale") else rf" with $\gamma = {self.gamma}$"
        if self.gamma == "match":
            gamma = r" with the $\gamma$ of the learned similarity"
        if self.kernel == "rbf" and not gamma:
            gamma = r" with $\gamma = 1 / (d \sigma^2)$ for embeddings of $d$ values with variance $\sigma^2$"
        kernel = "the learned similarity" if self.kernel == "match" else f"`{self.kernel}`"
        weight = ", with classes weighted by the inverse of their frequency" if self.class_weight else ""
        machine, constants = "a support vector machine", f"$C = {self.C:g}$"
        if isinstance(task, Regression):
            machine = "support vector regression of each target"
            constants += rf" and $\varepsilon = {self.epsilon:g}$"
        elif isinstance(task, Tags):
            machine = "a support vector machine for each tag"
        return f"{machine} [@cortes1995; @chang2011] with {constants} and the kernel {kernel}{gamma}{weight}"

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
        """Return a new, unfitted ``SVC``, for tags in a ``OneVsRestClassifier``; a ``MultiOutputRegressor`` of ``SVR``.

        Raises
        ------
        MirembedError
            If the targets of a regression are to have class weights.
        """
        from sklearn.multiclass import OneVsRestClassifier
        from sklearn.multioutput import MultiOutputRegressor
        from sklearn.svm import SVC, SVR

        kernel = {"kernel": "rbf", "gamma": self.gamma or "scale"}
        if self.kernel_similarity is not None:
            kernel = {"kernel": "precomputed"}
        estimator: Estimator
        if isinstance(task, Regression):
            if self.class_weight is not None:
                raise MirembedError(
                    f"class_weight is {self.class_weight!r}, but a regression has no classes; omit class_weight"
                )
            estimator = MultiOutputRegressor(SVR(C=self.C, epsilon=self.epsilon, **kernel))
            return estimator
        # By default, the decision values of more than two classes are votes, which hardly say how sure it is.
        estimator = SVC(C=self.C, class_weight=self.class_weight, decision_function_shape="ovo", **kernel)
        return OneVsRestClassifier(estimator) if isinstance(task, Tags) else estimator
