"""A random forest that is stored as numpy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor


class ArrayForest(BaseEstimator):
    """A random forest of scikit-learn whose nodes are kept in arrays, those of all trees one after the other.

    Parameters
    ----------
    classifies : bool
        Predict classes; otherwise numbers.
    trees, depth, seed
        See `mirembed_forest.Forest`.

    Attributes
    ----------
    classes_ : ndarray [n_classes]
    roots_ : ndarray [trees], int
        The first node of each tree.
    left_, right_ : ndarray [n_nodes], int
        The nodes below; -1 for a leaf.
    feature_, threshold_ : ndarray [n_nodes]
        To the left go those whose feature is not above the threshold.
    value_ : ndarray [n_nodes, n_classes or n_targets]
        The shares of the classes, or the means of the targets.
    """

    def __init__(self, classifies: bool = True, trees: int = 100, depth: int | None = None, seed: int = 0) -> None:
        self.classifies = classifies
        self.trees = trees
        self.depth = depth
        self.seed = seed

    def fit(self, X: NDArray[np.float32], y: NDArray[Any]) -> ArrayForest:
        """Grow the trees on ``X [n, units]`` and classes ``y [n]`` or targets ``y [n, n_targets]``."""
        kind = RandomForestClassifier if self.classifies else RandomForestRegressor
        one_target = not self.classifies and y.shape[1] == 1
        forest = kind(n_estimators=self.trees, max_depth=self.depth, random_state=self.seed)
        forest.fit(X, y[:, 0] if one_target else y)
        grown = [tree.tree_ for tree in forest.estimators_]
        self.classes_ = forest.classes_ if self.classifies else np.arange(0)
        self.roots_ = np.cumsum([0, *(tree.node_count for tree in grown[:-1])])
        self.left_ = self._below([tree.children_left for tree in grown])
        self.right_ = self._below([tree.children_right for tree in grown])
        self.feature_ = np.concatenate([tree.feature for tree in grown])
        self.threshold_ = np.concatenate([tree.threshold for tree in grown])
        self.value_ = np.concatenate([tree.value.reshape(tree.node_count, -1) for tree in grown])
        return self

    def predict(self, X: NDArray[np.float32]) -> NDArray[Any]:
        """Return classes ``[n]`` or targets ``[n, n_targets]`` for ``X [n, units]``."""
        nodes = np.tile(self.roots_, (len(X), 1))  # [n, trees]
        rows = np.arange(len(X))[:, None]
        while (inner := self.left_[nodes] >= 0).any():
            to_the_left = X[rows, self.feature_[nodes]] <= self.threshold_[nodes]
            nodes = np.where(inner, np.where(to_the_left, self.left_[nodes], self.right_[nodes]), nodes)
        values: NDArray[Any] = self.value_[nodes].mean(axis=1)
        return np.asarray(self.classes_[values.argmax(axis=1)]) if self.classifies else values

    def _below(self, children: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Return the nodes below, counted from the first node of the first tree."""
        return np.concatenate(
            [np.where(nodes < 0, -1, nodes + root) for nodes, root in zip(children, self.roots_, strict=True)]
        )
