"""The similarities of labels against those of embeddings: what the loss of the training compares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mirembed.errors import EvaluationError, PluginError
from mirembed.hookspecs import Classification
from mirembed.registry import Registry
from mirembed.reports import style
from mirembed.reports.embeddings import Embedded
from mirembed.reports.style import Figure
from mirembed.runs.record import RunRecord
from mirembed.specs import Spec
from mirembed.statistics import pearson_r
from mirembed.store.root import slug
from mirembed.training.labels import TargetScale, one_hot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EXPLAINED = (
    "Pairs of tracks by the similarity of their labels, with the similarity of their embeddings, as the loss of the "
    "training compares the two: points are medians, bars hold half of the pairs, thin lines nine in ten. Training asks "
    "for the dashed line."
)

_N_BINS = 10

_MANY_TRACKS = 500
"""Of more on one side of a fold, so many are drawn: the pairs grow with the square."""


@dataclass(frozen=True, eq=False)
class SimilarityPairs:
    """Similarities of the pairs of tracks on one side of a fold.

    Attributes
    ----------
    of_labels, of_embeddings : ndarray [n_pairs], float64
    n_tracks : int
        On this side; the pairs are of at most 500 of them.
    """

    of_labels: NDArray[np.float64]
    of_embeddings: NDArray[np.float64]
    n_tracks: int

    @property
    def drawn(self) -> bool:
        """Whether the pairs are of some of the tracks only."""
        return self.n_tracks > _MANY_TRACKS


def similarity_pairs(run: RunRecord, embedded: Embedded, registry: Registry, *, in_sample: bool) -> SimilarityPairs:
    """Return the similarities that the loss compares, for pairs of training tracks or of test tracks.

    The pairs are all those of at most 500 tracks, drawn with a fixed seed where there are more.

    Raises
    ------
    PluginError
        The similarity's plugin is not there, or fails.
    EvaluationError
        The range that the labels are scaled by is not known.
    """
    import torch

    from mirembed.training.similarity import PluginSimilarity

    learned = run.configuration["approaches"][embedded.approach]
    of_side = np.flatnonzero((embedded.in_sample == in_sample) & embedded.labeled)
    rows = of_side
    if len(of_side) > _MANY_TRACKS:
        rows = np.sort(np.random.default_rng(0).choice(of_side, _MANY_TRACKS, replace=False))
    vectors = {"similarity": embedded.vectors[rows], "label_similarity": _label_vectors(run, embedded)[rows]}
    upper = np.triu_indices(len(rows), k=1)
    found = {}
    for role, values in vectors.items():
        similarity = PluginSimilarity.create(registry, Spec.parse(learned[role]["spec"]))
        found[role] = similarity(torch.from_numpy(values.astype(np.float64))).numpy()[upper]
    return SimilarityPairs(found["label_similarity"], found["similarity"], len(of_side))


def similarity_figures(run: RunRecord, embedded: Sequence[Embedded], registry: Registry) -> Iterator[Figure | str]:
    """Draw the similarities of labels and embeddings for each learned similarity; or say why it cannot be done."""
    for one in embedded:
        if not run.configuration["approaches"].get(one.approach, {}).get("similarity"):
            continue
        try:
            sides = {side: similarity_pairs(run, one, registry, in_sample=side) for side in (True, False)}
        except (PluginError, EvaluationError) as error:
            yield f"no similarities of {one.approach}: {error}"
            continue
        if len(sides[False].of_labels) > 1:
            yield _draw_similarities(f"similarity-{slug(one.approach)}", one, sides)


def _label_vectors(run: RunRecord, embedded: Embedded) -> NDArray[np.floating[Any]]:
    """Return the label vectors that the network was trained with ``[n_tracks, n]``."""
    if isinstance(run.task, Classification):
        return one_hot(embedded.labels[:, 0], len(run.task.classes))
    training = embedded.in_sample
    declared = all(target.low is not None and target.high is not None for target in run.task.targets)
    if not declared and not embedded.labeled[training].all():
        raise EvaluationError("the labels of some training tracks are in no test fold, and no range is declared")
    return TargetScale.fit(run.task, embedded.labels[training]).scale(embedded.labels)


def _draw_similarities(name: str, embedded: Embedded, sides: dict[bool, SimilarityPairs]) -> Figure:
    with style.styled():
        figure, axes = style.axes(height=3.3)
        bins = _Bins.of(np.concatenate([pairs.of_labels for pairs in sides.values()]))
        for in_sample, pairs in sides.items():
            if len(pairs.of_labels):
                _draw_bins(axes, pairs, bins, in_sample)
        ends = [bins.edges[0], bins.edges[-1]]
        axes.plot(ends, ends, color=style.INK, linewidth=0.8, linestyle=style.dashes(1), label="equal")
        axes.set(xlabel="similarity of the labels", ylabel="similarity of the embeddings")
        style.legend(figure, 3)
        test = sides[False]
        r = pearson_r(test.of_labels, test.of_embeddings)
        return style.draw(
            figure,
            name,
            f"Similarities of {embedded.approach}",
            f"{embedded.describe()}: {len(test.of_labels)} pairs of test tracks, r = {r:.3f}.{_said_of_drawn(sides)}",
        )


def _said_of_drawn(sides: dict[bool, SimilarityPairs]) -> str:
    drawn = {"training": sides[True], "test": sides[False]}
    said = [f"{_MANY_TRACKS} of {pairs.n_tracks} {side} tracks" for side, pairs in drawn.items() if pairs.drawn]
    return f" Pairs of {' and '.join(said)}, drawn at random with a fixed seed." if said else ""


@dataclass(frozen=True, eq=False)
class _Bins:
    """Bins of label similarity.

    Attributes
    ----------
    edges : ndarray [n_edges], float64
        Of bins with equal counts; or the only values that occur, where they are few.
    few : bool
    """

    edges: NDArray[np.float64]
    few: bool

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> _Bins:
        occurring = np.unique(np.round(values, 6))
        if len(occurring) <= _N_BINS:
            return cls(occurring, True)
        return cls(np.unique(np.quantile(values, np.linspace(0, 1, _N_BINS + 1))), False)

    def place(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the bin of each value."""
        if self.few:
            nearest: NDArray[np.int64] = np.abs(values[:, None] - self.edges).argmin(axis=1)
            return nearest
        return np.clip(np.searchsorted(self.edges, values, side="right") - 1, 0, len(self.edges) - 2)


def _draw_bins(axes: Axes, pairs: SimilarityPairs, bins: _Bins, in_sample: bool) -> None:
    places = bins.place(pairs.of_labels)
    members = [places == place for place in np.unique(places)]
    shift = 0.012 * (float(np.ptp(bins.edges)) or 1.0)  # so that the two sides stand beside each other
    at = np.array([pairs.of_labels[rows].mean() for rows in members]) + (shift if in_sample else -shift)
    low, first, median, third, high = np.array(
        [np.quantile(pairs.of_embeddings[rows], (0.05, 0.25, 0.5, 0.75, 0.95)) for rows in members]
    ).T
    color, label = (style.COLORS[6], "training tracks") if in_sample else (style.COLORS[0], "test tracks")
    axes.vlines(at, low, high, color=color, linewidth=0.9)
    axes.vlines(at, first, third, color=color, linewidth=4)
    face = style.PAPER if in_sample else color
    axes.plot(at, median, style.marker(in_sample), color=color, markerfacecolor=face, label=label, zorder=4)
