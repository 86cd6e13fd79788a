"""The folds of a run, and its trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mirembed.config import Experiment
from mirembed.datasets.splits import Fold, Scheme, groups_on_both_sides, make_folds, make_splits, official_folds
from mirembed.evaluate.choices import Evaluation
from mirembed.evaluate.parts import Part
from mirembed.evaluate.sizes import Folds, small_test_parts
from mirembed.fit.job import Job, provenance
from mirembed.hookspecs import Classification
from mirembed.progress import counted
from mirembed.runs.folder import Run
from mirembed.store.root import slug
from mirembed.store.tracks import Tracks
from mirembed.training.loop import Settings

if TYPE_CHECKING:
    import pyarrow as pa


def draw_folds(tracks: Tracks, evaluation: Evaluation) -> tuple[Folds, list[str]]:
    """Return the folds of every seed, and what a user should know of them, each thing once.

    Raises
    ------
    EvaluationError
        If the tracks cannot be split so.
    """
    drawn = {seed: _folds_of_seed(tracks, evaluation, seed) for seed in evaluation.seeds}
    notes = dict.fromkeys(note for _, told in drawn.values() for note in told)
    folds = {seed: of_seed for seed, (of_seed, _) in drawn.items()}
    return folds, [*notes, *_warnings(tracks, folds[evaluation.seeds[0]])]


def _folds_of_seed(tracks: Tracks, evaluation: Evaluation, seed: int) -> tuple[list[Fold], list[str]]:
    labels = label_array(tracks)
    if evaluation.official is not None:
        return official_folds(tracks.task, labels, evaluation.official, tracks.ids)
    scheme = cast(Scheme, evaluation.scheme)
    if evaluation.n_splits is not None:
        return make_splits(
            tracks.task,
            labels,
            scheme=scheme,
            n_splits=evaluation.n_splits,
            test_size=evaluation.test_size,
            seed=seed,
            groups=tracks.groups,
        )
    return make_folds(tracks.task, labels, scheme=scheme, n_folds=evaluation.n_folds, seed=seed, groups=tracks.groups)


def _warnings(tracks: Tracks, folds: Sequence[Fold]) -> list[str]:
    notes = small_test_parts(folds)
    if crossing := groups_on_both_sides(folds, tracks.groups):
        notes.append(
            f"warning: {crossing} of {sum(len(fold.test) for fold in folds)} test tracks share their group (artist) "
            "with a training track of their fold, which flatters the scores; --folds grouped keeps groups apart"
        )
    if copies := groups_on_both_sides(folds, tracks.audio_hashes):
        notes.append(
            f"warning: {counted(copies, 'test track')} {'has' if copies == 1 else 'have'} the very same audio as a "
            "training track of the fold; `mirembed datasets check` lists such copies"
        )
    return notes


def label_array(tracks: Tracks) -> NDArray[Any]:
    """Return class indices ``[n_tracks]``, or targets ``[n_tracks, n_targets]`` in original units."""
    return tracks.class_indices if isinstance(tracks.task, Classification) else np.asarray(tracks.labels)


def plan(
    tracks: Tracks,
    experiment: Experiment,
    evaluation: Evaluation,
    folds: Folds,
    run: Run,
    described: Mapping[str, Any],
) -> list[Part]:
    """Return every training of the run, in an order that does not depend on what is done already."""
    command = run.manifest["command"]
    labels = label_array(tracks)
    parts = []
    for seed, of_seed in folds.items():
        for fold in of_seed:
            for methods in experiment.trainings:
                approach = methods[0].approach
                key = f"{slug(approach.training)}-seed{seed}-fold{fold.index}"
                job = Job(
                    frames=tracks.frames,
                    task=tracks.task,
                    labels=labels,
                    rows=fold.train,
                    normalize=experiment.normalize,
                    methods=methods,
                    settings=Settings(
                        experiment.epochs,
                        experiment.batch,
                        seed,
                        fold.index,
                        experiment.device,
                        experiment.engine,
                        evaluation.checkpoint_every,
                    ),
                    parameters=tracks.info.parameters,
                    provenance={**provenance(tracks, described, seed, command), "fold": fold.index},
                    checkpoint=run.checkpoints / f"{key}.safetensors",
                )
                first = seed == evaluation.seeds[0] and fold.index == 0
                parts.append(
                    Part(
                        job=job,
                        seed=seed,
                        fold=fold.index,
                        test=fold.test,
                        ids=tracks.ids,
                        folder=run.parts / key,
                        unfinished=run.checkpoints / key,
                        models=run.folder / "models" if evaluation.keep_models else None,
                        keep_embeddings=_embeddings_kept(approach.name, evaluation, first),
                    )
                )
    return parts


def _embeddings_kept(approach: str, evaluation: Evaluation, first: bool) -> str:
    if approach == "chance":
        return "none"
    if evaluation.keep_embeddings:
        return "all"
    return "last" if first else "none"


def folds_table(tracks: Tracks, folds: Folds) -> pa.Table:
    """Return the columns seed, id and fold: one row for each time that a track is tested."""
    import pyarrow as pa

    rows = [
        {"seed": seed, "id": tracks.ids[row], "fold": fold.index}
        for seed, of_seed in folds.items()
        for fold in of_seed
        for row in fold.test
    ]
    return pa.Table.from_pylist(rows)
