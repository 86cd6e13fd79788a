"""The most similar tracks of every track, exactly, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mirembed.interruption import interruptible
from mirembed.progress import NO_PROGRESS, Progress
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed.training.similarity import PluginSimilarity

if TYPE_CHECKING:
    from torch import Tensor

_ROWS = 256
"""Tracks that are compared with all others at once: 100 MB for 100 000 tracks."""

_GROUP = 64
"""Tracks of which only the most similar one is considered at first, because sorting all would take most of the time."""

_SPARE = 22
"""Candidates beyond those asked for, because float32 may put them into a slightly wrong order."""


def nearest(
    registry: Registry, similarity: Spec, vectors: NDArray[np.float32], k: int, progress: Progress = NO_PROGRESS
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Find the tracks that are most similar to each track, which itself is left out.

    Candidates are found in float32 and ranked in float64. Ties are broken by the order of the tracks.

    Parameters
    ----------
    registry : Registry
    similarity : Spec
    vectors : ndarray [n_tracks, units]
    k : int
        How many to find; all others if there are fewer.
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
    quick = PluginSimilarity.create(registry, similarity)
    exact = PluginSimilarity.create(registry, similarity).double()
    # A similarity without `cross` computes all pairs of its input.
    step = n if hasattr(quick.similarity, "cross") else _ROWS
    y = torch.from_numpy(np.ascontiguousarray(vectors, np.float32))  # [n, units]
    progress.start("finding the most similar tracks", n)
    for start in range(0, n, _ROWS):
        x = y[start : start + _ROWS]  # [b, units]
        with interruptible(), torch.inference_mode():
            blocks = [quick.cross(x, block) for block in torch.split(y, step)]
            found = blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)  # [b, n]
            own = torch.arange(len(x))
            found[own, start + own] = -torch.inf
            columns = _largest(found, min(k + _SPARE, n - 1))
            columns = columns.sort(dim=1).values  # so that the stable sort below leaves ties in their order
            refined = exact.cross(x.double()[:, None], y[columns].double())[:, 0]  # [b, candidates]
            order = refined.argsort(dim=1, descending=True, stable=True)[:, :k]
            rows[start : start + _ROWS] = columns.gather(1, order).numpy()
            values[start : start + _ROWS] = refined.gather(1, order).numpy()
        progress.update(min(n, start + _ROWS))
    return rows, values


def _largest(values: Tensor, count: int) -> Tensor:
    """Return the columns ``[b, count]`` of the largest of ``values [b, n]``, in any order.

    They are in the ``count`` groups of columns with the largest maxima.
    """
    import torch

    b, n = values.shape
    grouped = n - n % _GROUP
    columns = torch.arange(grouped, n).expand(b, -1)
    if grouped:
        maxima = values[:, :grouped].unflatten(1, (-1, _GROUP)).amax(dim=2)  # [b, groups]
        groups = maxima.topk(min(count, maxima.shape[1]), dim=1, sorted=False).indices
        inside = (groups[:, :, None] * _GROUP + torch.arange(_GROUP)).flatten(1)
        columns = torch.cat([inside, columns], dim=1)
    best = values.gather(1, columns).topk(count, dim=1, sorted=False).indices
    return columns.gather(1, best)
