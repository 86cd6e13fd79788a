"""Random forests as a learner for mirembed.

Every `mirembed` command imports this module, so scikit-learn is imported only when a forest is created.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirembed import Regression, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirembed import Estimator, Task


class Forest:
    """A random forest: the mean vote or mean prediction of many decision trees.

    Parameters
    ----------
    trees : int
        The number of trees, 1 or more.
    depth : int or None
        The maximum depth of a tree, 1 or more. None to grow until every leaf is pure.
    seed : int
        The seed of the random choices, 0 or more.
    """

    def __init__(self, trees: int = 100, depth: int | None = None, seed: int = 0) -> None:
        for name, value, least in (("trees", trees, 1), ("depth", depth, 1), ("seed", seed, 0)):
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; expected {least} or more")
        self.trees = trees
        self.depth = depth
        self.seed = seed

    def estimator(self, task: Task) -> Estimator:
        """Return a new, unfitted forest; for regression, one per target, which keeps the shape ``[n, 1]``."""
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
        from sklearn.multioutput import MultiOutputRegressor

        options = {"n_estimators": self.trees, "max_depth": self.depth, "random_state": self.seed}
        estimator: Estimator
        if isinstance(task, Regression):
            estimator = MultiOutputRegressor(RandomForestRegressor(**options))
        else:
            estimator = RandomForestClassifier(**options)
        return estimator


@hookimpl
def mirembed_register_learners(register: Callable[..., None]) -> None:
    """Register the learner."""
    register("forest", Forest, summary="Random forest")
