"""Predictions for training tracks by models that were not fitted to them, from which stacked members are weighted.

D. H. Wolpert, Stacked generalization, Neural Networks 5 (1992); L. Breiman, Stacked regressions, Machine Learning 24
(1996).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mirembed.config import Method, Settings
from mirembed.errors import SpecError
from mirembed.fit.candidates import Candidate, Selection
from mirembed.fit.job import Job
from mirembed.fit.selection import fit_selected, inner_job
from mirembed.models.averaging import Outputs
from mirembed.models.combined import outputs_of
from mirembed.models.model import Model
from mirembed.progress import counted
from mirembed.registry import Registry
from mirembed.store.files import writing

_PARTS = ("predicted", "scores", "probabilities")


@dataclass(frozen=True, eq=False)
class Stacking:
    """The inner folds of a training that predict its training tracks.

    Attributes
    ----------
    methods : tuple of Method
        Those of the training that are members of stacked methods.
    inner : ndarray [n_train], int64
        The inner fold that tests each training track; -1 for a track that all inner folds train on.
    """

    methods: tuple[Method, ...]
    inner: NDArray[np.int64]

    @classmethod
    def of(
        cls, methods: Iterable[Method], stacked: Collection[str], inner: NDArray[np.int64] | None
    ) -> Stacking | None:
        """Return the inner folds of those methods that are ``stacked``; None if none is."""
        members = tuple(method for method in methods if method.name in stacked)
        return cls(members, inner) if members and inner is not None else None

    @property
    def n_folds(self) -> int:
        """Number of inner folds."""
        return int(self.inner.max()) + 1

    def jobs(self, job: Job) -> list[tuple[Job, NDArray[np.int64]]]:
        """Return the job of each inner fold, which trains on a part of the training tracks, and what it tests.

        Parameters
        ----------
        job : Job
            Of the training.

        Returns
        -------
        list of (Job, ndarray)
            The latter are positions among the training tracks.
        """
        settings = replace(job.settings, checkpoint_every=0)
        found = []
        for number in range(self.n_folds):
            checkpoint = None if job.checkpoint is None else job.checkpoint.with_suffix(f".{number}.stacking")
            of_fold = inner_job(job, np.flatnonzero(self.inner != number), self.methods)
            of_fold = replace(of_fold, settings=settings, checkpoint=checkpoint, calibrate=True)
            found.append((of_fold, np.flatnonzero(self.inner == number)))
        return found

    def results(self, job: Job) -> list[Path | None]:
        """Return the file that keeps the outputs of each inner fold until the training is finished."""
        first = job.checkpoint
        return [None if first is None else first.with_suffix(f".{number}.stacked") for number in range(self.n_folds)]

    def unfinished(self, job: Job) -> list[Job]:
        """Return the jobs of the inner folds that an interrupted `out_of_fold` has not finished."""
        each = zip(self.jobs(job), self.results(job), strict=True)
        return [of_fold for (of_fold, _), path in each if path is None or not path.exists()]

    def is_resumed(self, job: Job) -> bool:
        """Whether an interrupted `out_of_fold` has done part of a job."""
        kept = any(path is not None and path.exists() for path in self.results(job))
        return kept or any(of_fold.is_resumed for of_fold, _ in self.jobs(job))


def out_of_fold(
    job: Job,
    stacking: Stacking,
    registry: Registry,
    on_epoch: Callable[[int], None] = lambda epoch: None,
    selection: Selection | None = None,
    saved: tuple[Model, NDArray[np.float32]] | None = None,
) -> dict[str, Outputs]:
    """Return what the stacked methods of a job predict for its training tracks, each by models not fitted to it.

    Everything is fitted anew in each inner fold, including networks: one that has seen the labels of a track would
    seem better than it is. An interrupted call is resumed: inner folds that are finished are not repeated.

    Parameters
    ----------
    job : Job
    stacking : Stacking
    registry : Registry
    on_epoch : callable
        Called with the number of finished epochs, over all inner folds.
    selection : Selection or None
        Of the methods of the job; learners are chosen in the other inner folds. None if nothing is chosen.
    saved : (Model, ndarray) or None
        See `mirembed.fit.job.fit_to_saved`.

    Returns
    -------
    dict of str to Outputs
        By method, for the tracks with an inner fold, in the order of the training tracks. Probabilities are NaN in
        inner folds where a method has none.

    Raises
    ------
    MirembedError
        See `mirembed.fit.job.fit_models`.
    """
    chosen = None if selection is None else selection.of(stacking.methods)
    found, tested = [], []
    for number, ((of_fold, test), path) in enumerate(zip(stacking.jobs(job), stacking.results(job), strict=True)):

        def count(epoch: int, before: int = number * job.epochs) -> None:
            on_epoch(before + epoch)

        if path is not None and path.exists():
            outputs = _read(path)
        else:
            among = _between_others(chosen, stacking.inner, number)
            outputs = _of_inner_fold(of_fold, job.rows[test], registry, count, saved, among)
            if path is not None:
                _keep(path, outputs)
        of_fold.delete_checkpoints()
        found.append(outputs)
        tested.append(test)
        count(job.epochs)
    order = np.argsort(np.concatenate(tested))
    return {method.name: _joined([one[method.name] for one in found], order) for method in stacking.methods}


def check_stacked(
    settings: Settings, candidates: Mapping[str, Sequence[Candidate]], stacked: Collection[str], n_inner: int
) -> None:
    """Refuse choices that need inner folds of inner folds: of a stacked member's network, or with two inner folds.

    Parameters
    ----------
    settings : Settings
    candidates : mapping of str to sequence of Candidate
        By method; see `mirembed.fit.candidates.plan_candidates`.
    stacked : collection of str
        The members of stacked methods.
    n_inner : int
        The number of inner folds, the least of all folds.

    Raises
    ------
    SpecError
    """
    chosen = {name: some for name, some in candidates.items() if name in stacked and len(some) > 1}
    for name, some in chosen.items():
        if len({(one.network, one.epochs) for one in some}) > 1:
            raise SpecError(
                f"--combine stacked and --select {', '.join(settings.select)}: choosing the network of {name}, a "
                "stacked member, would train networks in inner folds of each inner fold; combine with equal weights, "
                "or choose only learners"
            )
    if chosen and n_inner < 3:
        raise SpecError(
            f"{counted(n_inner, 'inner fold')}: with --select and --combine stacked, learners are chosen in the other "
            "inner folds, so at least 3 are needed; set their number with --inner-cv, or in the table of the folds"
        )


def _of_inner_fold(
    job: Job,
    rows: NDArray[np.int64],
    registry: Registry,
    on_epoch: Callable[[int], None],
    saved: tuple[Model, NDArray[np.float32]] | None,
    selection: Selection | None,
) -> dict[str, Outputs]:
    [(_, fitted)] = fit_selected(job, selection, registry, on_epoch, saved=saved).trainings
    [model, *_] = fitted.models.values()
    frames = job.frames.take(rows)
    vectors = model.embed(frames.open(), frames.starts, frames.lengths) if saved is None else saved[1][rows]
    return {name: outputs_of(one, vectors) for name, one in fitted.models.items()}


def _between_others(selection: Selection | None, inner: NDArray[np.int64], left_out: int) -> Selection | None:
    """Return a selection that compares in the other inner folds, of the tracks that are left."""
    left = inner[inner != left_out]
    return None if selection is None else replace(selection, inner=np.where(left > left_out, left - 1, left))


def _joined(parts: Sequence[Outputs], order: NDArray[np.intp]) -> Outputs:
    """Put the outputs of the inner folds together, in the order of the training tracks."""
    with_any = next((one for one in parts if one.probabilities is not None), None)
    probabilities = None
    if with_any is not None and with_any.probabilities is not None:
        width = with_any.probabilities.shape[1]
        known = [
            np.full((len(one.predicted), width), np.nan) if one.probabilities is None else one.probabilities
            for one in parts
        ]
        probabilities = np.concatenate(known)[order]
    scores = [one.scores for one in parts if one.scores is not None]
    predicted = np.concatenate([one.predicted for one in parts])[order]
    return Outputs(predicted, np.concatenate(scores)[order] if scores else None, probabilities)


def _keep(path: Path, outputs: Mapping[str, Outputs]) -> None:
    from safetensors.numpy import save

    arrays = {
        f"{name} | {part}": np.ascontiguousarray(values)
        for name, one in outputs.items()
        for part in _PARTS
        if (values := getattr(one, part)) is not None
    }
    with writing(path) as temporary:
        temporary.write_bytes(save(arrays))


def _read(path: Path) -> dict[str, Outputs]:
    from safetensors.numpy import load_file

    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    for key, values in load_file(path).items():
        name, _, part = key.rpartition(" | ")
        found.setdefault(name, {})[part] = values
    return {name: Outputs(**parts) for name, parts in found.items()}
