"""Project embeddings to two dimensions by PCA or UMAP, and measure how well neighbors are kept."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import MirembedError
from mirembed.interruption import interruptible
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.training.similarity import PluginSimilarity

METHODS = ("pca", "umap")

UMAP_NEIGHBORS = 15
"""Neighbors of each track, including itself: UMAP's default."""

_FEWEST_FOR_UMAP = 5

_SAMPLE = 2000
"""Tracks on which trustworthiness is measured, because it needs the similarities of all pairs."""

_NEIGHBORS = 10


@dataclass(frozen=True)
class Trustworthiness:
    """How far neighbors on the map are neighbors in the embedding space; see `trustworthiness`.

    Attributes
    ----------
    value : float
        From 0 to 1; 1 if all are.
    neighbors : int
        Number of neighbors per track.
    sample : int
        Number of tracks on which it was measured.
    """

    value: float
    neighbors: int
    sample: int


def check_method(method: str) -> None:
    """Refuse a method that is unknown or not installed, before any work is done.

    Raises
    ------
    MirembedError
    """
    if method not in METHODS:
        raise MirembedError(f"--method {method}: expected {' or '.join(METHODS)}")
    if method == "umap" and importlib.util.find_spec("umap") is None:
        raise MirembedError("--method umap needs the package umap-learn: pip install 'mirembed[map]'")


def principal_components(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the first two principal components ``[n, 2]`` and their shares of the variance ``[2]``.

    The sign of each component makes its largest absolute value positive.

    >>> positions, shares = principal_components(np.array([[0, 0, 1], [1, 0, 1], [5, 0, 1]], np.float32))
    >>> positions[:, 0].tolist(), shares.tolist()
    ([-2.0, -1.0, 3.0], [1.0, 0.0])
    """
    centered = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    values, directions = np.linalg.eigh(centered.T @ centered)  # ascending
    values = np.maximum(values, 0.0)
    n_found = min(2, len(values))
    scores = np.zeros((len(vectors), 2))
    scores[:, :n_found] = centered @ directions[:, ::-1][:, :n_found]
    shares = np.zeros(2)
    shares[:n_found] = values[::-1][:n_found] / (values.sum() or 1.0)
    signs = np.where(scores[np.abs(scores).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    return scores * signs, shares


def umap_positions(
    vectors: NDArray[np.float32], rows: NDArray[np.int32], similarities: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    """Place tracks by UMAP, from their exact neighbors.

    Parameters
    ----------
    vectors : ndarray [n_tracks, units]
        UMAP starts from their principal components.
    rows : ndarray [n_tracks, k]
        The most similar tracks of each track.
    similarities : ndarray [n_tracks, k]
        UMAP takes the largest one minus these as distances.
    seed : int

    Returns
    -------
    ndarray [n_tracks, 2]

    Raises
    ------
    MirembedError
        If there are too few tracks.
    """
    n = len(vectors)
    if n < _FEWEST_FOR_UMAP:
        raise MirembedError(
            f"--method umap needs at least {_FEWEST_FOR_UMAP} tracks, but the map has {n}; use --method pca"
        )
    with interruptible(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about features of UMAP that exact neighbors rule out, and that are not used
        from umap import UMAP

        known = np.column_stack([np.arange(n), rows]).astype(np.int64)
        distances = np.column_stack([np.zeros(n), similarities.max() - similarities]).astype(np.float32)
        start, _ = principal_components(vectors)
        start = 10 * start / (np.abs(start).max() or 1.0)
        start += np.random.default_rng(seed).normal(
            0, 1e-4, start.shape
        )  # tracks that start at one place would stay together
        umap = UMAP(
            n_neighbors=known.shape[1],
            precomputed_knn=(known, distances, None),
            force_approximation_algorithm=True,
            init=start.astype(np.float32),
            random_state=seed,
            n_jobs=1,  # with a seed, UMAP uses one thread
        )
        return np.asarray(umap.fit_transform(vectors), np.float64)


def trustworthiness(
    registry: Registry, similarity: Spec, vectors: NDArray[np.float32], positions: NDArray[np.float64], seed: int
) -> Trustworthiness | None:
    """Measure how far the 10 nearest tracks on the map are among the most similar ones.

    Source: Venna & Kaski, Neighborhood preservation in nonlinear projection methods, ICANN 2001; computed by
    scikit-learn.

    Parameters
    ----------
    registry : Registry
    similarity : Spec
    vectors : ndarray [n_tracks, units]
    positions : ndarray [n_tracks, 2]
    seed : int
        Draws the sample where there are many tracks.

    Returns
    -------
    Trustworthiness or None
        None if there are too few tracks.
    """
    n = len(vectors)
    sample = np.arange(n) if n <= _SAMPLE else np.sort(np.random.default_rng(seed).choice(n, _SAMPLE, replace=False))
    k = min(_NEIGHBORS, (len(sample) - 1) // 2)
    if k < 1:
        return None
    with interruptible():
        import torch
        from sklearn import manifold

        x = torch.from_numpy(vectors[sample].astype(np.float64))
        with torch.inference_mode():
            similarities = PluginSimilarity.create(registry, similarity).double()(x).numpy()
        distances = similarities.max() - similarities
        value = manifold.trustworthiness(distances, positions[sample], n_neighbors=k, metric="precomputed")
    return Trustworthiness(float(value), k, len(sample))
