"""Choosing inside a fold: candidates are compared in inner folds of the training tracks, and the best is fitted to all.

Where only learners are chosen, the inner folds split the embeddings of the one network that is trained anyway. That
network has seen the labels of all training tracks, so the inner scores are too high, but for all candidates alike.
As soon as something of the network is chosen, each inner fold trains networks of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.config import Method
from mirembed.fit.candidates import Candidate, Selection
from mirembed.fit.job import Fitted, Job, fit_learners, fit_models, fit_to_saved
from mirembed.fit.resolve import describe_chosen
from mirembed.hookspecs import Tags
from mirembed.models.model import Model
from mirembed.registry import Registry
from mirembed.statistics.metrics import Metric, metric_named
from mirembed.statistics.samples import nan_mean
from mirembed.store.files import read_json, write_json
from mirembed.training.labels import scale_for


@dataclass(frozen=True)
class Scored:
    """A candidate with its scores.

    Attributes
    ----------
    candidate : Candidate
    scores : tuple of float
        The deciding metric in each inner fold; NaN where the labels leave it undefined.
    """

    candidate: Candidate
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over the inner folds in which the metric is defined; NaN if there is none."""
        defined = [score for score in self.scores if not math.isnan(score)]
        return math.fsum(defined) / len(defined) if defined else math.nan


@dataclass(frozen=True)
class Decision:
    """The candidates of a method, and the best of them.

    Attributes
    ----------
    metric : Metric
    scored : list of Scored
    """

    metric: Metric
    scored: list[Scored]

    @property
    def candidate(self) -> Candidate:
        """The candidate with the best mean, the first of equals; the first of all if no score is defined."""
        sign = 1 if self.metric.higher_is_better else -1
        means = [-math.inf if math.isnan(one.mean) else sign * one.mean for one in self.scored]
        return self.scored[means.index(max(means))].candidate

    @property
    def is_undecided(self) -> bool:
        """Whether no candidate has a score."""
        return all(math.isnan(one.mean) for one in self.scored)

    def to_json(self) -> dict[str, Any]:
        """Return the choice as JSON."""
        return {
            "metric": self.metric.name,
            "chosen": dict(self.candidate.values),
            "candidates": [
                {**one.candidate.values, "mean": _or_none(one.mean), "scores": [*map(_or_none, one.scores)]}
                for one in self.scored
            ],
        }


@dataclass(frozen=True)
class Selected:
    """The models of a training, with what was chosen for them.

    Attributes
    ----------
    trainings : list of (Job, Fitted)
        One for each network that some method chose; the job has its methods, with what was chosen for them.
    decisions : dict of str to Decision
        By method; only methods for which there was something to choose.
    choices : tuple of str
        The names of all choices, of other methods too.
    """

    trainings: list[tuple[Job, Fitted]]
    decisions: dict[str, Decision]
    choices: tuple[str, ...] = ()

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the score of every candidate in every inner fold, see `mirembed.runs.tables.selection_table`."""
        for method, decision in self.decisions.items():
            best = decision.candidate
            for number, one in enumerate(decision.scored):
                for inner_fold, score in enumerate(one.scores):
                    yield {
                        "method": method,
                        "candidate": number,
                        **{name: one.candidate.values.get(name) for name in self.choices},
                        "inner_fold": inner_fold,
                        "score": _or_none(score),
                        "chosen": one.candidate is best,
                    }


def total_epochs(job: Job, selection: Selection | None) -> int:
    """Return how many epochs `fit_selected` trains for, at most if each training ends at the last epoch."""
    return job.epochs * (1 if selection is None else selection.n_inner_networks + 1)


def inner_results(job: Job) -> Path | None:
    """Return the file that keeps the scores of the inner folds until the training is finished."""
    return None if job.checkpoint is None else job.checkpoint.with_suffix(".inner")


def is_resumed(job: Job) -> bool:
    """Whether an interrupted `fit_selected` has done part of a job."""
    kept = inner_results(job)
    return job.is_resumed or (kept is not None and kept.exists())


def fit_selected(
    job: Job,
    selection: Selection | None,
    registry: Registry,
    on_epoch: Callable[[int], None] = lambda epoch: None,
    on_checkpoint: Callable[[Job, int, Fitted], None] | None = None,
    saved: tuple[Model, NDArray[np.float32]] | None = None,
) -> Selected:
    """Fit the models of a job as `fit_models` does, with what is chosen for each method in inner folds.

    No other track than the training tracks is read. An interrupted call is resumed: inner trainings that are finished
    are not repeated.

    Parameters
    ----------
    job : Job
    selection : Selection or None
        Of the methods of the job; None if nothing is chosen.
    on_epoch : callable
        Called with the number of finished epochs, see `total_epochs`.
    on_checkpoint : callable or None
        As for `fit_models`, for the final networks; called with their job first.
    saved : (Model, ndarray) or None
        See `fit_to_saved`.

    Raises
    ------
    MirembedError
        See `fit_models`.
    """
    if selection is not None and selection.of_network:
        return _with_networks(job, selection, registry, on_epoch, on_checkpoint)
    choose = None if selection is None else _LearnerChoice(job, selection, registry)
    if saved is None:
        at_checkpoint = None if on_checkpoint is None else partial(on_checkpoint, job)
        fitted = fit_models(job, registry, on_epoch, at_checkpoint, choose)
    else:
        fitted = fit_to_saved(job, *saved, registry, choose)
    return _recorded([(job, fitted)], {} if choose is None else choose.decisions, selection)


class _LearnerChoice:
    """Chooses learners by their scores in inner folds of the embeddings; `decisions` is about the last call."""

    def __init__(self, job: Job, selection: Selection, registry: Registry) -> None:
        self._job, self._selection, self._registry = job, selection, registry
        self.decisions: dict[str, Decision] = {}

    def __call__(self, model: Model, embeddings: NDArray[np.float32]) -> list[Method]:
        """Return the methods of the job with the best learners; see `mirembed.fit.job.fit_models`."""
        job, candidates = self._job, self._selection.candidates
        compared = {name: some for name, some in candidates.items() if len(some) > 1}
        methods = _as_methods([one for some in compared.values() for one in some])
        metric = metric_named(self._selection.metric)
        scores = []
        for train, test in self._selection.splits:
            inner, of_train = inner_job(job, train, methods), embeddings[train]
            without = model.without_learner(job.task, scale_for(job.task, job.labels[inner.rows]))
            fitted = fit_learners(inner, self._registry, without, partial(np.asarray, of_train), last=False)
            scores.append(_score(job, metric, fitted, job.rows[test], embeddings[test]))
        self.decisions = {
            name: Decision(metric, [Scored(one, tuple(by_name[one.name] for by_name in scores)) for one in some])
            for name, some in compared.items()
        }
        best = {name: one.candidate.method for name, one in self.decisions.items()}
        return [best.get(method.name, method) for method in job.methods]


def _with_networks(
    job: Job,
    selection: Selection,
    registry: Registry,
    on_epoch: Callable[[int], None],
    on_checkpoint: Callable[[Job, int, Fitted], None] | None,
) -> Selected:
    """Choose networks, epochs and learners in inner folds, then train the chosen networks on all training tracks."""
    total = total_epochs(job, selection)
    scores = _inner_scores(job, selection, registry, on_epoch)
    metric = metric_named(selection.metric)
    chosen = {
        name: Decision(metric, [Scored(one, scores[one.network, one.name, one.epochs]) for one in some])
        for name, some in selection.candidates.items()
    }
    trainings = []
    done = total - job.epochs
    for final in _chosen_jobs(job, [one.candidate for one in chosen.values()], registry):
        at_checkpoint = None if on_checkpoint is None else partial(on_checkpoint, final)

        def count(epoch: int, before: int = done) -> None:
            on_epoch(min(total, before + epoch))

        trainings.append((final, fit_models(final, registry, count, at_checkpoint)))
        done += final.epochs
    return _recorded(trainings, chosen, selection)


@dataclass(frozen=True)
class InnerTraining:
    """A training in an inner fold.

    Attributes
    ----------
    number : int
        Of the network, in `Selection.networks`.
    fold : int
        Number of the inner fold.
    candidates : list of Candidate
        Those that share the network.
    job : Job
        On the training tracks of the inner fold, with a method for each candidate.
    test : ndarray [n_test], int64
        Rows of the test tracks of the inner fold.
    """

    number: int
    fold: int
    candidates: list[Candidate]
    job: Job
    test: NDArray[np.int64]

    def key(self, epoch: int) -> str:
        """Return the name of the scores after an epoch in the file of `inner_results`."""
        return f"network {self.number}, inner fold {self.fold}, epoch {epoch}"


def unfinished_inner_trainings(job: Job, selection: Selection) -> list[InnerTraining]:
    """Return the trainings of `inner_trainings` that an interrupted `fit_selected` has not finished."""
    kept = _kept_scores(job)
    return [one for one in inner_trainings(job, selection) if one.key(job.settings.epochs) not in kept]


def _kept_scores(job: Job) -> dict[str, dict[str, float | None]]:
    path = inner_results(job)
    return read_json(path) if path is not None and path.exists() else {}


def inner_trainings(job: Job, selection: Selection) -> list[InnerTraining]:
    """Return the trainings that compare the candidates of a job; none if only learners are chosen."""
    if not selection.of_network:
        return []
    found = []
    for number, candidates in enumerate(selection.networks):
        first = candidates[0]
        # Networks are scored before their last epoch only where the epoch is chosen.
        every = job.settings.checkpoint_every if len({one.epochs for one in candidates}) > 1 else 0
        settings = replace(job.settings, optimizer=first.optimizer, checkpoint_every=every)
        for fold, (train, test) in enumerate(selection.splits):
            inner = replace(
                inner_job(job, train, _as_methods(candidates)),
                network=first.method.network,
                settings=settings,
                checkpoint=None if job.checkpoint is None else job.checkpoint.with_suffix(f".{number}-{fold}.inner"),
            )
            found.append(InnerTraining(number, fold, candidates, inner, job.rows[test]))
    return found


def _inner_scores(
    job: Job, selection: Selection, registry: Registry, on_epoch: Callable[[int], None]
) -> dict[tuple[Any, str, int], tuple[float, ...]]:
    """Train in the inner folds what is not finished; return the scores by network, name and epochs."""
    path, kept = inner_results(job), _kept_scores(job)
    metric, frames = metric_named(selection.metric), job.frames
    found: dict[tuple[Any, str, int], tuple[float, ...]] = {}
    for order, inner in enumerate(inner_trainings(job, selection)):

        def count(epoch: int, before: int = order * job.epochs) -> None:
            on_epoch(before + epoch)

        def keep(epoch: int, fitted: Fitted, of: InnerTraining = inner) -> None:
            [model, *_] = fitted.models.values()
            vectors = model.embed(frames.open(), frames.starts[of.test], frames.lengths[of.test])
            scores = _score(job, metric, fitted, of.test, vectors)
            kept[of.key(epoch)] = {name: _or_none(score) for name, score in scores.items()}
            if path is not None:
                write_json(path, kept)

        if inner.key(job.settings.epochs) not in kept:
            fitted = fit_models(inner.job, registry, count, keep if inner.job.settings.checkpoint_every else None)
            keep(job.settings.epochs, fitted)
            inner.job.delete_checkpoints()
        count(job.epochs)
        for one in inner.candidates:
            score = kept[inner.key(one.epochs)][one.name]
            place = one.network, one.name, one.epochs
            found[place] = (*found.get(place, ()), math.nan if score is None else score)
    return found


def _chosen_jobs(job: Job, chosen: Sequence[Candidate], registry: Registry) -> list[Job]:
    """Return the final trainings: one for each network and number of epochs that was chosen."""
    groups: dict[tuple[Any, int], list[Candidate]] = {}
    for one in chosen:
        groups.setdefault((one.network, one.epochs), []).append(one)
    jobs = []
    for number, some in enumerate(groups.values()):
        methods, optimizer, epochs = tuple(one.method for one in some), some[0].optimizer, some[0].epochs
        described = describe_chosen(job.provenance["settings"], methods, optimizer, epochs, registry)
        checkpoint = None if job.checkpoint is None else job.checkpoint.with_suffix(f".{number}.safetensors")
        jobs.append(
            replace(
                job,
                network=methods[0].network,
                methods=methods,
                settings=replace(job.settings, optimizer=optimizer, epochs=epochs),
                provenance={**job.provenance, "settings": described},
                checkpoint=checkpoint,
            )
        )
    return jobs


def inner_job(job: Job, positions: NDArray[np.int64], methods: tuple[Method, ...]) -> Job:
    """Return a job on some of the training tracks."""
    rows, recordings = job.rows[positions], tuple(job.recordings[position] for position in positions)
    return replace(job, rows=rows, methods=methods, recordings=recordings, checkpoint=None, calibrate=False)


def _as_methods(candidates: Sequence[Candidate]) -> tuple[Method, ...]:
    """Return the methods of candidates that share a network, each with a name of its own."""
    return tuple({one.name: replace(one.method, name=one.name) for one in candidates}.values())


def _score(
    job: Job, metric: Metric, fitted: Fitted, rows: NDArray[np.int64], vectors: NDArray[np.float32]
) -> dict[str, float]:
    """Return the metric of each model on some tracks, the mean over targets or tags; NaN where it is undefined."""
    scores = {}
    for name, model in fitted.models.items():
        outputs = model.scores(vectors) if isinstance(job.task, Tags) else model.predict(vectors)
        scores[name] = _mean_score(metric, job.labels[rows], outputs)
    return scores


def _mean_score(metric: Metric, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
    """Return the mean of a metric over the targets or tags whose truth does not leave it undefined.

    Where only the prediction does, it counts as 0: a candidate must not gain by predicting a constant.
    """
    if metric.column is None:
        return float(metric.function(truth, predicted))
    scores = np.array(metric.function(truth, predicted))  # [n_columns]
    causes = metric.why_undefined(truth, predicted)
    for column, cause in zip(np.flatnonzero(np.isnan(scores)), causes, strict=True):
        if cause == "constant prediction":
            scores[column] = 0
    return float(nan_mean(scores))


def _recorded(
    trainings: list[tuple[Job, Fitted]], chosen: Mapping[str, Decision], selection: Selection | None
) -> Selected:
    """Record the choices in the provenance of the models."""
    for _, fitted in trainings:
        for name, model in fitted.models.items():
            if name not in chosen:
                continue
            choice = chosen[name]
            notes = list(model.provenance["notes"])
            if choice.is_undecided:
                notes.append(
                    f"{choice.metric.label} is undefined in all inner folds, so nothing could be compared; the first "
                    "candidate was taken"
                )
            model.provenance = {**model.provenance, "notes": notes, "selection": choice.to_json()}
    return Selected(trainings, dict(chosen), () if selection is None else selection.choices)


def _or_none(score: float) -> float | None:
    return None if math.isnan(score) else score
