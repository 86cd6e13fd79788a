"""Maps of the embeddings: their first two principal components, colored by class or target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.hookspecs import Classification
from mirembed.reports import style
from mirembed.reports.embeddings import Embedded
from mirembed.reports.style import Figure
from mirembed.runs.record import RunRecord
from mirembed.store.root import slug

EXPLAINED = (
    "The first two principal components of the embeddings of all tracks by one network. Solid: test tracks, which the "
    "network has not seen; pale: training tracks. Point at a track or tap it for its name; arrow keys go through them."
)


@dataclass(frozen=True)
class _Group:
    """Tracks that share color and marker on a map.

    Attributes
    ----------
    number : int
    name, color, marker : str
    said : dict of int to str
        What to say of the label of each row.
    """

    number: int
    name: str
    color: str
    marker: str
    said: dict[int, str]

    @property
    def rows(self) -> list[int]:
        """The rows of its tracks."""
        return list(self.said)


def map_figures(run: RunRecord, embedded: Sequence[Embedded], shown: str) -> list[Figure]:
    """Draw a map of each network's embeddings colored by class; or that of ``shown``, by each target."""
    with style.styled():
        if isinstance(run.task, Classification):
            return [
                _draw_map(f"map-{slug(one.approach)}", f"Map of {one.approach}", one, _by_class(one, run.task.classes))
                for one in embedded
            ]
        named = [one for one in embedded if one.approach == shown] or list(embedded)
        return [
            _draw_map(f"map-{slug(t.name)}", f"Map of {one.approach}: {t.name}", one, _by_target(one, column, t.name))
            for one in named[:1]
            for column, t in enumerate(run.task.targets)
        ]


def principal_components(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the first two principal components ``[n, 2]``, and the share of the variance of each ``[2]``.

    The sign of a component is such that its largest value is positive.
    """
    centered = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    left, values, _ = np.linalg.svd(centered, full_matrices=False)
    scores = (left * values)[:, :2]
    signs = np.sign(scores[np.abs(scores).argmax(axis=0), [0, 1]])
    total = float((values**2).sum()) or 1.0
    return scores * signs, values[:2] ** 2 / total


def _by_class(embedded: Embedded, classes: Sequence[str]) -> list[_Group]:
    """Return the tracks of each class."""
    groups = []
    for number, name in enumerate(classes):
        rows = np.flatnonzero((embedded.labels[:, 0] == number) & embedded.labeled)
        groups.append(
            _Group(number, name, style.color(number), style.marker(number), dict.fromkeys(rows.tolist(), name))
        )
    return [*groups, *_unlabeled(embedded, len(classes))]


def _by_target(embedded: Embedded, column: int, target: str) -> list[_Group]:
    """Return the tracks in five ranges of a target, with about as many tracks in each."""
    values = embedded.labels[:, column]
    edges = np.unique(np.quantile(values[embedded.labeled], np.linspace(0, 1, len(style.RAMP) + 1)))
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(0, len(edges) - 2))
    groups = []
    for number in range(max(1, len(edges) - 1)):
        rows = np.flatnonzero((place == number) & embedded.labeled).tolist()
        color, marker = style.RAMP[number]
        name = f"{edges[number]:.3g} to {edges[min(number + 1, len(edges) - 1)]:.3g}"
        groups.append(_Group(number, name, color, marker, {row: f"{target} {values[row]:.3g}" for row in rows}))
    return [*groups, *_unlabeled(embedded, len(groups))]


def _unlabeled(embedded: Embedded, number: int) -> list[_Group]:
    """Return the tracks whose labels the run does not tell: those of official splits that are never tested."""
    rows = np.flatnonzero(~embedded.labeled).tolist()
    return [_Group(number, "not tested", style.COLORS[6], "x", dict.fromkeys(rows, "not tested"))] if rows else []


def _draw_map(name: str, title: str, embedded: Embedded, groups: Sequence[_Group]) -> Figure:
    places, shares = principal_components(embedded.vectors)
    figure, axes = style.axes(height=4.4)
    points: dict[str, list[str]] = {}
    for group in groups:
        look: dict[str, Any] = {"color": group.color, "marker": group.marker, "linestyle": ""}
        axes.plot([], [], markersize=6, label=group.name, **look)
        for in_sample, side in ((True, "training"), (False, "test")):
            rows = np.array([row for row in group.rows if embedded.in_sample[row] == in_sample], np.int64)
            size = (4, 0, 0.35, 2) if in_sample else (6, 0.6, 1, 3)
            of_side: dict[str, Any] = dict(zip(("markersize", "markeredgewidth", "alpha", "zorder"), size, strict=True))
            (line,) = axes.plot(*places[rows].T, markeredgecolor=style.PAPER, **look, **of_side)
            line.set_gid(f"points-{group.number}-{side}")
            points[f"points-{group.number}-{side}"] = [
                f"{embedded.ids[row]}: {group.said[row]}, {side} track" for row in rows.tolist()
            ]
    axes.set(xlabel=f"first component ({shares[0]:.0%} of the variance)", ylabel=f"second ({shares[1]:.0%})")
    axes.set_aspect("equal", adjustable="datalim")
    style.legend(figure, 3)
    caption = f"{embedded.describe()}: two components explain {shares.sum():.0%} of the variance."
    return style.draw(figure, name, title, caption, points)
