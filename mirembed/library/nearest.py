"""Find the most similar tracks of every track, exactly, in bounded memory.

Computing a similarity for all pairs of 100 000 tracks takes many minutes. Most similarities rank tracks in the same
order as a matrix product, which is much faster: of unit vectors, of vectors, or one that gives distances. If one of
these does so for a sample of the library, it chooses the candidates, which the similarity then ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mirembed.interruption import interruptible
from mirembed.progress import NO_PROGRESS, Progress
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.training.similarity import PluginSimilarity

if TYPE_CHECKING:
    from torch import Tensor

    _Closeness: TypeAlias = Callable[[slice], Tensor]
    """Takes rows; returns numbers ``[b, n]`` that are larger for more similar tracks."""

_ROWS = 256
"""Tracks that are compared with all others at once; this takes 100 MB for 100 000 tracks."""

_GROUP = 64
"""Tracks of which only the most similar one is considered at first, because sorting all would take most of the time."""

_SPARE = 22
"""Candidates in addition to those asked for, because float32 may order them slightly wrong."""

_PROBES = 64
"""Tracks for which the order of all others by a product is compared with the order by the similarity."""

_ROUNDING = 1e-6
"""How much a similarity may rise where it should fall, relative to its range: products are in float32."""


def nearest(
    registry: Registry, similarity: Spec, vectors: NDArray[np.float32], k: int, progress: Progress = NO_PROGRESS
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Find the tracks that are most similar to each track, except itself.

    Parameters
    ----------
    registry : Registry
    similarity : Spec
    vectors : ndarray [n_tracks, units]
    k : int
        The number to find; all others if there are fewer.
    progress : Progress

    Returns
    -------
    rows : ndarray [n_tracks, k], int32
        By descending similarity.
    similarities : ndarray [n_tracks, k], float64

    Raises
    ------
    PluginError
        If the similarity fails.
    """
    import torch

    n = len(vectors)
    k = max(0, min(k, n - 1))
    rows, values = np.zeros((n, k), np.int32), np.zeros((n, k))
    if k == 0:
        return rows, values
    exact = PluginSimilarity.create(registry, similarity).double()
    y = torch.from_numpy(vectors.astype(np.float64))  # [n, units]
    progress.start("finding the most similar tracks", n)
    with interruptible(), torch.inference_mode():
        closeness = _closeness(exact, y)
    for start in range(0, n, _ROWS):
        block = slice(start, min(n, start + _ROWS))
        with interruptible(), torch.inference_mode():
            found = closeness(block)  # [b, n]
            own = torch.arange(len(found))
            found[own, start + own] = -torch.inf
            columns = _largest(found, min(k + _SPARE, n - 1))  # [b, candidates]
            refined = exact.cross(y[block, None], y[columns])[:, 0]
            order = refined.argsort(dim=1, descending=True, stable=True)[:, :k]
            rows[block] = columns.gather(1, order).numpy()
            values[block] = refined.gather(1, order).numpy()
        progress.update(block.stop)
    return rows, values


def _closeness(exact: PluginSimilarity, y: Tensor) -> _Closeness:
    """Return the fastest function that finds candidates reliably for ``y [n, units]``."""
    import torch

    n = len(y)
    probes = torch.linspace(0, n - 1, min(n, _PROBES)).long()
    similarities = torch.cat([block for _, block in _similarities(exact, y[probes], y)], dim=1)  # [probes, n]
    slack = _ROUNDING * (similarities.max() - similarities.min())
    for left, right in _products(y):
        order = (left[probes] @ right.T).argsort(dim=1, descending=True)
        ordered = similarities.gather(1, order)
        if (ordered - ordered.cummin(dim=1).values).max() <= slack:
            product = torch.empty(min(n, _ROWS), n)
            return lambda rows: torch.mm(left[rows], right.T, out=product[: rows.stop - rows.start])

    def by_similarity(rows: slice) -> Tensor:
        found = torch.empty(rows.stop - rows.start, n, dtype=torch.float64)
        for start, block in _similarities(exact, y[rows], y):
            found[:, start : start + block.shape[1]] = block
        return found

    return by_similarity


def _products(y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pairs of float32 arrays whose products may rank tracks: by cosine, by distance, by dot product."""
    import torch

    unit = (y / y.norm(dim=1, keepdim=True).clamp(min=1e-12)).float()
    yield unit, unit
    centered = y - y.mean(dim=0)  # smaller numbers, smaller rounding
    squares = (centered * centered).sum(dim=1, keepdim=True)
    # |x - y|^2 without |x|^2, which is the same for all candidates of a track.
    left, right = [2 * centered, torch.ones_like(squares)], [centered, -squares]
    yield torch.cat(left, dim=1).float(), torch.cat(right, dim=1).float()
    yield y.float(), y.float()


def _similarities(exact: PluginSimilarity, x: Tensor, y: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the similarities of ``x`` to parts of ``y``, with the row at which a part begins."""
    step = 2048 if hasattr(exact.similarity, "cross") else _ROWS  # without `cross`, all pairs are computed
    for start in range(0, len(y), step):
        yield start, exact.cross(x, y[start : start + step])


def _largest(values: Tensor, count: int) -> Tensor:
    """Return the columns ``[b, count]`` of the largest of ``values [b, n]``, the largest first.

    They are in the ``count`` groups of columns with the largest maxima.
    """
    import torch

    b, n = values.shape
    grouped = n - n % _GROUP
    columns = torch.arange(grouped, n).expand(b, -1)
    if grouped:
        maxima = values[:, :grouped].view(b, -1, _GROUP).amax(dim=2)  # [b, groups]
        groups = maxima.topk(min(count, maxima.shape[1]), dim=1, sorted=False).indices
        inside = (groups[:, :, None] * _GROUP + torch.arange(_GROUP)).flatten(1)
        columns = torch.cat([inside, columns], dim=1)
    best = values.gather(1, columns).topk(count, dim=1, sorted=False).indices
    columns = columns.gather(1, best).sort(dim=1).values
    order = values.gather(1, columns).argsort(dim=1, descending=True, stable=True)  # ties in the order of the columns
    return columns.gather(1, order)
