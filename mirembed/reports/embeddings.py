"""What the networks learned: similarities of labels and embeddings, and maps of the embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from numpy.typing import NDArray

from mirembed.config.approaches import Approach, Method
from mirembed.errors import EvaluationError, PluginError
from mirembed.hookspecs import Classification, Regression, Tags
from mirembed.registry import Registry
from mirembed.reports import style
from mirembed.reports.page import Section
from mirembed.runs.record import RunRecord
from mirembed.runs.selection import describe_values
from mirembed.runs.tables import TRAINED, network_of, table_rows
from mirembed.specs import Spec
from mirembed.statistics.target_metrics import pearson_r
from mirembed.store.files import read_table
from mirembed.store.root import slug
from mirembed.store.rows import tags_of
from mirembed.training.labels import label_vectors, scale_for, undeclared

_N_BINS = 10
"""Bins of label similarities, of equal width, so that their bars do not collide."""

_FLATTEST = 0.4
"""The least height of a map in its width; a flatter one is stretched."""

_MAPPED_TAGS = 6
"""Maps are drawn of so many tags, the most frequent ones."""

_MANY_TRACKS = 500
"""With more training or test tracks than this, pairs come from a random sample of this size."""

_EMPHASIS: dict[str, dict[str, Any]] = {
    "training": {"markersize": 3.6, "markeredgewidth": 0.9, "markerfacecolor": "none", "zorder": 2},
    "test": {"markersize": 6.4, "markeredgewidth": 0.7, "markeredgecolor": style.PAPER, "zorder": 3},
}
"""The markers of training and test tracks on a map: hollow and solid, none of them pale."""

_Groups: TypeAlias = tuple[list[tuple[str, str, str]], NDArray[np.int64], list[str]]
"""Groups of tracks on a map: name, color and marker of each group, then the group and the label of each track."""


@dataclass(frozen=True, eq=False)
class FoldEmbeddings:
    """The embeddings of all tracks by the network of one fold, after the last epoch.

    Attributes
    ----------
    approach : str
    label : str
        Approach, and network and features where the run has several.
    seed, fold, epoch : int
        Of the network.
    ids : list of str
    in_sample : ndarray [n_tracks], bool
        Whether the network was trained on the track.
    vectors : ndarray [n_tracks, units], float32
    labels : ndarray
        Class indices ``[n_tracks, 1]``, int64; tags ``[n_tracks, n_tags]``, int64 0 or 1; or targets
        ``[n_tracks, n_targets]``, float64 in original units.
    labeled : ndarray [n_tracks], bool
        Whether the run holds the track's label; if not, ``labels`` is 0.
    chosen : mapping of str to str
        What was chosen for the network and its learner inside the fold, by the name of the choice.
    """

    approach: str
    label: str
    seed: int
    fold: int
    epoch: int
    ids: list[str]
    in_sample: NDArray[np.bool_]
    vectors: NDArray[np.float32]
    labels: NDArray[Any]
    labeled: NDArray[np.bool_]
    chosen: Mapping[str, str]

    @property
    def place(self) -> str:
        """Seed, fold and epoch of the network."""
        return f"Seed {self.seed}, fold {self.fold}, epoch {self.epoch}"


@dataclass(frozen=True, eq=False)
class SimilarityPairs:
    """Similarities of pairs of training tracks, or of pairs of test tracks.

    Attributes
    ----------
    of_labels, of_embeddings : ndarray [n_pairs], float64
    n_tracks : int
        Number of all training or test tracks, including those outside the sample.
    """

    of_labels: NDArray[np.float64]
    of_embeddings: NDArray[np.float64]
    n_tracks: int


def embedding_sections(run: RunRecord, registry: Registry, map_label: str) -> list[Section]:
    """Return the sections on similarities and maps; for tags and targets, the maps are those of ``map_label``."""
    embeddings = read_embeddings(run)
    figures, problems = _similarity_figures(run, embeddings, registry)
    maps = _map_figures(run, embeddings, map_label)
    about_figures = (
        "How similar pairs of tracks are by their labels and by their embeddings: the two similarities that the "
        "training loss compares. Points are medians; thick bars cover half of the pairs, thin lines nine in ten. "
        "Perfect training would put every pair on the dashed line."
    )
    about_maps = (
        "The first two principal components of one network's embeddings of all tracks. Solid markers are test tracks, "
        "which the network has not seen; small hollow ones are training tracks. Point at a track or tap it to see its "
        "name, or step through the tracks with the arrow keys."
    )
    return [
        Section(
            "Similarity of labels and embeddings", [*([about_figures] if figures else []), *problems], figures=figures
        ),
        Section("Maps of the embeddings", [about_maps] if maps else [], figures=maps),
    ]


def read_embeddings(run: RunRecord) -> list[FoldEmbeddings]:
    """Return each network's embeddings from the first seed's first fold."""
    keys = [*TRAINED, "seed", "fold", "epoch"]
    chosen: dict[tuple[str | None, ...], tuple[tuple[int, int, int], Path]] = {}
    for path in run.embedding_files:
        for found in read_table(path, keys).group_by(keys).aggregate([]).to_pylist():
            network = tuple(found[name] for name in TRAINED)
            rank = (run.configuration["seeds"].index(found["seed"]), found["fold"], -found["epoch"])
            if network not in chosen or rank < chosen[network][0]:
                chosen[network] = (rank, path)
    first = next(iter(run.predictions.values()))
    labels = dict(zip(first.ids.tolist(), first.truth, strict=True))
    read = []
    for method in run.first_methods:
        if found := chosen.get(network_of(method)):
            rank, path = found
            read.append(_read_embeddings(run, method, path, -rank[2], labels))
    return read


def _read_embeddings(
    run: RunRecord, method: Method, path: Path, epoch: int, labels: Mapping[str, Any]
) -> FoldEmbeddings:
    table = read_table(path)
    wanted = (*network_of(method), epoch)
    table = table.filter(pa.array([found == wanted for found in table_rows(table, *TRAINED, "epoch")]))
    ids = table["id"].to_pylist()
    seed, fold = (table[name][0].as_py() for name in ("seed", "fold"))
    chosen = [one.values for one in run.selection if (one.method, one.seed, one.fold) == (method.name, seed, fold)]
    unknown: NDArray[Any]
    if isinstance(run.task, Regression):
        unknown = np.zeros(len(run.task.targets))
    else:
        unknown = np.zeros(len(run.task.classes) if isinstance(run.task, Tags) else 1, np.int64)
    return FoldEmbeddings(
        approach=table["approach"][0].as_py(),
        label=method.label,
        seed=seed,
        fold=fold,
        epoch=epoch,
        ids=ids,
        in_sample=np.array(table["in_sample"].to_pylist(), bool),
        vectors=table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(ids), -1),
        labels=np.array([labels.get(track, unknown) for track in ids], unknown.dtype),
        labeled=np.array([track in labels for track in ids], bool),
        chosen=chosen[0] if chosen else {},
    )


def _similarity_figures(
    run: RunRecord, embeddings: Sequence[FoldEmbeddings], registry: Registry
) -> tuple[list[style.Figure], list[str]]:
    """Draw embedding against label similarity for each learned similarity; also return why figures are missing."""
    figures, problems = [], []
    for one in embeddings:
        if not run.configuration["approaches"].get(one.approach, {}).get("label_similarity"):
            continue
        try:
            training, test = (similarity_pairs(run, one, registry, in_sample=side) for side in (True, False))
        except (PluginError, EvaluationError) as error:
            problems.append(f"No similarity figure for {one.label}: {error}")
            continue
        if len(test.of_labels) > 1:
            figures.append(_draw_similarities(one, training, test))
    return figures, problems


def similarity_pairs(
    run: RunRecord, embeddings: FoldEmbeddings, registry: Registry, *, in_sample: bool
) -> SimilarityPairs:
    """Return the similarities that the loss compares, for all pairs of training tracks or of test tracks.

    Where their parameters were chosen inside the fold, they are those of the fold's network.

    If there are more than 500 tracks, 500 are drawn with a fixed seed, as the number of pairs grows quadratically.

    Raises
    ------
    PluginError
        The similarity's plugin is missing or fails.
    EvaluationError
        The range to which the labels were scaled is unknown.
    """
    import torch

    from mirembed.training.similarity import PluginSimilarity

    rows = np.flatnonzero((embeddings.in_sample == in_sample) & embeddings.labeled)
    n_tracks = len(rows)
    if n_tracks > _MANY_TRACKS:
        rows = np.sort(np.random.default_rng(0).choice(rows, _MANY_TRACKS, replace=False))
    upper = np.triu_indices(len(rows), k=1)

    def similarities(spec: Spec, vectors: NDArray[Any]) -> NDArray[np.float64]:
        similarity = PluginSimilarity.create(registry, spec)
        found: NDArray[np.float64] = similarity(torch.from_numpy(vectors[rows].astype(np.float64))).numpy()
        return found[upper]

    similarity, label_similarity = _trained_with(run, embeddings)
    of_embeddings = similarities(similarity, embeddings.vectors)
    of_labels = similarities(label_similarity, _label_vectors(run, embeddings))
    return SimilarityPairs(of_labels, of_embeddings, n_tracks)


def _trained_with(run: RunRecord, embeddings: FoldEmbeddings) -> list[Spec]:
    """Return the similarities of embeddings and of labels that the network of the fold was trained with."""
    roles = run.configuration["approaches"][embeddings.approach]
    similarity, labels = (Spec.parse(roles[role]["spec"]) for role in ("similarity", "label_similarity"))

    def chosen(part: str) -> dict[str, str]:
        return {name.removeprefix(part): value for name, value in embeddings.chosen.items() if name.startswith(part)}

    follow = run.configuration["label_similarity"] is None
    approach = Approach(embeddings.approach, similarity, labels).with_parameters(
        chosen("similarity."), chosen("label-similarity."), labels_follow=follow
    )
    return [spec for spec in (approach.similarity, approach.label_similarity) if spec is not None]


def _label_vectors(run: RunRecord, embeddings: FoldEmbeddings) -> NDArray[np.floating[Any]]:
    """Return the label vectors ``[n_tracks, n]`` that the network was trained with."""
    training = embeddings.in_sample
    if undeclared(run.task) and not embeddings.labeled[training].all():
        raise EvaluationError(
            "the range of its labels is unknown: none is declared, and some training tracks are never tested, so that "
            "the run does not hold their labels"
        )
    labels = embeddings.labels[:, 0] if isinstance(run.task, Classification) else embeddings.labels
    return label_vectors(run.task, labels, scale_for(run.task, embeddings.labels[training]))


def _draw_similarities(embeddings: FoldEmbeddings, training: SimilarityPairs, test: SimilarityPairs) -> style.Figure:
    with style.styled():
        figure, axes = style.axes(height=3.3)
        centers, bins = _bin([training.of_labels, test.of_labels])
        shift = 0.015 * (float(np.ptp(centers)) or 1.0)  # draws training and test tracks side by side
        _draw_bins(axes, training, centers + shift, bins[0], style.COLORS[6], "s", "training tracks")
        _draw_bins(axes, test, centers - shift, bins[1], style.COLORS[0], "o", "test tracks")
        ends = [centers[0], centers[-1]]
        axes.plot(ends, ends, color=style.INK, linewidth=0.8, linestyle=style.dashes(1), label="equal")
        axes.set(xlabel="similarity of the labels", ylabel="similarity of the embeddings")
        style.legend(figure)
        r = pearson_r(test.of_labels, test.of_embeddings)
        samples = [
            f"{_MANY_TRACKS} of {pairs.n_tracks} {side} tracks"
            for side, pairs in (("training", training), ("test", test))
            if pairs.n_tracks > _MANY_TRACKS
        ]
        chosen = f" (chosen: {describe_values(embeddings.chosen)})" if embeddings.chosen else ""
        sampled = f" Random sample (fixed seed): {' and '.join(samples)}." if samples else ""
        return style.draw(
            figure,
            f"similarity-{slug(embeddings.label)}",
            f"Similarities of {embeddings.label}",
            f"{embeddings.place}{chosen}: {len(test.of_labels)} pairs of test tracks, r = {r:.3f}.{sampled}",
        )


def _bin(values: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float64], list[NDArray[np.int64]]]:
    """Put label similarities into bins of equal width; if there are few distinct values, one bin for each.

    Returns
    -------
    centers : ndarray [n_bins], float64
        The middle of each bin; if there are few distinct values, these values.
    bins : list of ndarray, int64
        The bin of each value, in arrays of the same shapes as ``values``.
    """
    together = np.concatenate(values)
    distinct = np.unique(np.round(together, 6))
    edges = np.linspace(together.min(), together.max(), _N_BINS + 1)
    width = edges[1] - edges[0]
    if len(distinct) == 1 or (len(distinct) <= _N_BINS and float(np.diff(distinct).min()) >= width):
        return distinct, [np.abs(some[:, None] - distinct).argmin(axis=1) for some in values]
    bins = [np.clip(np.searchsorted(edges, some, side="right") - 1, 0, _N_BINS - 1) for some in values]
    return (edges[:-1] + edges[1:]) / 2, bins


def _draw_bins(
    axes: Axes,
    pairs: SimilarityPairs,
    centers: NDArray[np.float64],
    bins: NDArray[np.int64],
    color: str,
    marker: str,
    label: str,
) -> None:
    if not len(bins):
        return
    filled = np.unique(bins)
    low, first, median, third, high = np.array(
        [np.quantile(pairs.of_embeddings[bins == number], (0.05, 0.25, 0.5, 0.75, 0.95)) for number in filled]
    ).T
    at = centers[filled]
    axes.vlines(at, low, high, color=color, linewidth=0.9)
    axes.vlines(at, first, third, color=color, linewidth=4)
    axes.plot(at, median, marker, color=color, markerfacecolor=style.PAPER, markersize=5, label=label, zorder=4)


def _map_figures(run: RunRecord, embeddings: Sequence[FoldEmbeddings], map_label: str) -> list[style.Figure]:
    """Draw a map of each network by class; else one for each target, or the most frequent tags, of one network."""
    with style.styled():
        if isinstance(run.task, Classification):
            return [
                _draw_map(one.label, f"Map of {one.label}", one, _by_class(one, run.task.classes)) for one in embeddings
            ]
        chosen = [one for one in embeddings if one.label == map_label] or list(embeddings)
        if isinstance(run.task, Tags):
            tags = run.task
            return [
                _draw_map(tags.classes[number], f"Map of {one.label}: {tags.classes[number]}", one, grouped)
                for one in chosen[:1]
                for number in np.argsort(-one.labels.sum(axis=0), kind="stable")[:_MAPPED_TAGS]
                for grouped in [_by_tag(one, int(number), tags)]
            ]
        return [
            _draw_map(target.name, f"Map of {one.label}: {target.name}", one, _by_target(one, column, target.name))
            for one in chosen[:1]
            for column, target in enumerate(run.task.targets)
        ]


def principal_components(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the first two principal components ``[n, 2]`` and their shares of the variance ``[2]``.

    The sign of each component makes its largest absolute value positive.
    """
    centered = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    left, values, _ = np.linalg.svd(centered, full_matrices=False)
    scores = (left * values)[:, :2]
    signs = np.sign(scores[np.abs(scores).argmax(axis=0), [0, 1]])
    total = float((values**2).sum()) or 1.0
    return scores * signs, values[:2] ** 2 / total


def _by_class(embeddings: FoldEmbeddings, classes: Sequence[str]) -> _Groups:
    labels = embeddings.labels[:, 0]
    looks = [(name, style.color(number), style.marker(number)) for number, name in enumerate(classes)]
    return looks, labels, [classes[label] for label in labels]


def _by_tag(embeddings: FoldEmbeddings, number: int, task: Tags) -> _Groups:
    """Group the tracks into those with a tag and those without it; their labels are all their tags."""
    tag = task.classes[number]
    looks = [(f"not {tag}", style.COLORS[0], style.marker(0)), (tag, style.COLORS[1], style.marker(1))]
    return looks, embeddings.labels[:, number], [", ".join(tags_of(row, task)) or "no tag" for row in embeddings.labels]


def _by_target(embeddings: FoldEmbeddings, column: int, target: str) -> _Groups:
    """Group the tracks into five ranges of a target with about equal counts."""
    values = embeddings.labels[:, column]
    edges = np.unique(np.quantile(values[embeddings.labeled], np.linspace(0, 1, len(style.RAMP) + 1)))
    limits = list(pairwise(edges)) or [(edges[0], edges[0])]  # all tracks may have the same value
    looks = [(f"{low:.3g} to {high:.3g}", *look) for (low, high), look in zip(limits, style.RAMP, strict=False)]
    groups = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(limits) - 1)
    return looks, groups, [f"{target} {value:.3g}" for value in values]


def _draw_map(file_name: str, title: str, embeddings: FoldEmbeddings, grouped: _Groups) -> style.Figure:
    positions, shares = principal_components(embeddings.vectors)
    (looks, groups, labels), labeled = grouped, embeddings.labeled
    groups = np.where(labeled, groups, len(looks))
    if not labeled.all():
        # Some official splits leave tracks out of all test folds, and the run does not hold their labels.
        looks = [*looks, ("not tested", style.COLORS[6], "x")]
    width, height = np.ptp(positions, axis=0)
    ratio = float(np.clip(height / (width or 1.0), _FLATTEST, 1.2))
    figure, axes = style.axes(height=3.6 * ratio + 0.6 + 0.2 * -(-len(looks) // 3))
    tooltips: dict[str, list[str]] = {}
    for number, (name, color, marker) in enumerate(looks):
        look: dict[str, Any] = {"color": color, "marker": marker, "linestyle": ""}
        axes.plot([], [], markersize=6, label=name, **look)
        for side, emphasis in _EMPHASIS.items():
            rows = np.flatnonzero((groups == number) & (embeddings.in_sample == (side == "training")))
            (points,) = axes.plot(*positions[rows].T, **look, **emphasis)
            gid = f"points-{number}-{side}"
            points.set_gid(gid)
            texts = [(embeddings.ids[row], labels[row] if labeled[row] else name) for row in rows.tolist()]
            tooltips[gid] = [f"{track}: {text}, {side} track" for track, text in texts]
    axes.set(xlabel=f"first component ({shares[0]:.0%} of the variance)", ylabel=f"second ({shares[1]:.0%})")
    caption = f"{embeddings.place}: the two components explain {shares.sum():.0%} of the variance."
    if height < _FLATTEST * width:
        caption += f" The second axis is stretched to {_FLATTEST * width / (height or 1.0):.2g} times its height."
    else:
        axes.set_aspect("equal", adjustable="datalim")
    style.legend(figure)
    return style.draw(figure, f"map-{slug(file_name)}", title, caption, tooltips)
