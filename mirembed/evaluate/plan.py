"""The plan of an evaluation on one dataset: its settings, folds and trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from mirembed.config import Method, Settings, defaults
from mirembed.config.approaches import by_training, learners_of
from mirembed.config.comparisons import Comparisons
from mirembed.config.settings import is_folds_file
from mirembed.datasets.folds_file import FoldsFile, own_folds, read_folds_file
from mirembed.datasets.splits import (
    Fold,
    Scheme,
    choose_scheme,
    groups_on_both_sides,
    make_folds,
    make_splits,
    official_folds,
)
from mirembed.datasets.train_size import shrunk_folds
from mirembed.errors import EvaluationError, SpecError
from mirembed.evaluate.fold import FoldTraining, SavedEmbeddings
from mirembed.fit.candidates import (
    Candidate,
    Selection,
    checked_inner_folds,
    draw_inner_folds,
    inner_scheme,
    plan_candidates,
)
from mirembed.fit.combining import stacked_members
from mirembed.fit.job import Job, training_provenance
from mirembed.fit.resolve import describe_settings
from mirembed.fit.saved import SavedNetwork, with_saved
from mirembed.fit.stacking import Stacking, check_stacked
from mirembed.hookspecs import Split, Tags, Task
from mirembed.interruption import interruptible
from mirembed.models.baselines import chance_estimator
from mirembed.models.learners import check_learners
from mirembed.progress import counted
from mirembed.provenance import content_digest, environment
from mirembed.registry import Registry
from mirembed.runs.folder import FOLDS_FILE_FOLDER, RunFolder
from mirembed.runs.scores import fold_scores
from mirembed.runs.summary import Sizes, describe_folds
from mirembed.runs.tables import Predictions
from mirembed.statistics.metrics import headline
from mirembed.statistics.samples import nan_mean
from mirembed.store.root import slug
from mirembed.store.rows import task_to_json
from mirembed.store.tracks import Tracks
from mirembed.training.labels import scale_for

Folds: TypeAlias = Mapping[int, Sequence[Fold]]
"""The folds of each seed."""

_RECORDED = (
    "metric",
    "cv",
    "splits",
    "test_size",
    "label_similarity",
    "select",
    "inner_cv",
    "checkpoint_every",
    "keep_models",
    "keep_embeddings",
)
"""Settings of an evaluation that its manifest repeats, besides those of the training."""

_SMALL_TEST_PART = 10
"""With fewer test tracks in a fold, its score is coarse, and an interval over such scores means little."""


@dataclass(frozen=True)
class PlannedRun:
    """An evaluation on one dataset, ready to run.

    Attributes
    ----------
    name : str
        Of its folder, if it is one of several of an experiment.
    settings : Settings
        For this dataset, with all defaults filled in.
    methods : tuple of Method
    tracks : Tracks
    plugins : mapping
        See `mirembed.fit.resolve.describe_plugins`.
    folds : mapping of int to sequence of Fold
        Of each seed.
    fold_notes : list of str
        What a user should know about the folds.
    saved : mapping of str to SavedNetwork
        The networks that are used as they are, by the name of the approach.
    plugin_files : mapping of str to bytes
        The files in ``--plugins-dir`` that it uses, by name.
    candidates : mapping of str to tuple of Candidate
        What is compared inside the folds, by method.
    inner : mapping of (int, int) to ndarray
        The inner folds of each seed and fold, see `mirembed.fit.candidates.Selection`; empty if nothing is chosen.
    folds_file : FoldsFile or None
        The table that gives the folds.
    """

    name: str
    settings: Settings
    methods: tuple[Method, ...]
    tracks: Tracks
    plugins: Mapping[str, Any]
    folds: Folds
    fold_notes: list[str]
    saved: Mapping[str, SavedNetwork] = field(default_factory=dict)
    plugin_files: Mapping[str, bytes] = field(default_factory=dict)
    candidates: Mapping[str, tuple[Candidate, ...]] = field(default_factory=dict)
    inner: Mapping[tuple[int, int], NDArray[np.int64]] = field(default_factory=dict)
    folds_file: FoldsFile | None = None

    @property
    def official(self) -> bool:
        """Whether the folds are official splits of the dataset, or those of a table: the same for every seed."""
        return self.settings.cv is None and self.settings.splits is None

    @property
    def n_folds(self) -> int:
        """Number of folds or splits of each seed."""
        return len(self.folds[self.settings.seed[0]])

    @property
    def all_methods(self) -> tuple[Method, ...]:
        """The methods with everything that may be chosen for them."""
        return tuple(one.method for some in self.candidates.values() for one in some) or self.methods

    @property
    def folds_name(self) -> str:
        """The scheme, the name of official splits, or that of the table of folds."""
        return str(self.settings.folds) if self.folds_file is None else self.folds_file.name

    @property
    def train_size(self) -> float:
        """The share of each fold's training tracks that is trained on."""
        return self.settings.train_size[0] if self.settings.train_size else 1.0

    def stored_settings(self, folder: str = "") -> Settings:
        """Return the settings that repeat the run from its own files.

        Parameters
        ----------
        folder : str
            From the experiment file to the folder of the run, with a slash at the end.
        """
        if self.folds_file is None:
            return self.settings
        return replace(self.settings, folds=f"{folder}{FOLDS_FILE_FOLDER}/{self.folds_file.name}")

    @cached_property
    def sizes(self) -> Sizes:
        """How many tracks the folds train on and test."""
        return fold_sizes(self.folds, len(self.tracks.ids))

    @cached_property
    def bootstrap_groups(self) -> dict[str, str] | None:
        """The groups of tracks, by id, which the bootstrap draws; None where folds do not keep groups apart."""
        groups = {track: group for track, group in zip(self.tracks.ids, self.tracks.groups, strict=True) if group}
        folds = [fold for of_seed in self.folds.values() for fold in of_seed]
        return groups if groups and not groups_on_both_sides(folds, self.tracks.groups) else None

    @property
    def comparisons(self) -> Comparisons:
        """The comparisons that are declared before training."""
        return Comparisons.of(self.methods, self.settings.against, self.settings.primary)

    def describe(self) -> str:
        """Describe dataset, folds and epochs in one line."""
        settings = self.settings
        folds = describe_folds(
            self.folds_name,
            cv=settings.cv,
            splits=settings.splits,
            n_official=self.n_folds if self.official else None,
            n_seeds=len(settings.seed),
            train_size=self.train_size,
        )
        trains = any(method.approach.trains for method in self.methods)
        epochs = f", {counted(settings.epochs, 'epoch')}" if trains else ""
        if settings.ensemble > 1:
            epochs += f", ensembles of {settings.ensemble} networks"
        of_inner = [f"{', '.join(settings.select)} chosen"] if settings.select else []
        of_inner += ["weights fitted"] if self._stacked else []
        inner = f", {' and '.join(of_inner)} in {self.n_inner} inner folds" if of_inner else ""
        return f"{self.tracks.info.spec}: {self.sizes.describe(folds)}{epochs}{inner}"

    @property
    def n_inner(self) -> int:
        """The largest number of inner folds of a fold; 0 if nothing is chosen."""
        return max((int(inner.max()) + 1 for inner in self.inner.values()), default=0)

    def configuration(self) -> dict[str, Any]:
        """Return everything that decides the numbers, and the sizes and chance level of the folds, as JSON."""
        tracks, settings, sizes = self.tracks, self.settings, self.sizes
        described = describe_settings(settings, self.plugins)
        return {
            "dataset": {
                "spec": tracks.info.spec,
                "plugin": dict(tracks.info.plugin),
                "digest": tracks.digest,
                "tracks": tracks_digest(tracks),
            },
            "task": task_to_json(tracks.task),
            "n_tracks": len(tracks.ids),
            **described,
            "features": {
                spec: {**one, "frames": tracks.frames_digests[spec], "backends": tracks.backends[spec]}
                for spec, one in described["features"].items()
            },
            "folds": self.folds_name,
            "train_size": self.train_size,
            **{name: getattr(settings, name) for name in _RECORDED},
            "comparisons": self.comparisons.to_json(),
            "seeds": list(settings.seed),
            "n_used": sizes.n_used,
            "n_train": sizes.n_train,
            "n_test": sizes.n_test,
            "chance": chance(tracks.task, tracks.label_array, self.folds, settings.metric),
            "bootstrap": "tracks" if self.bootstrap_groups is None else "groups",
            "excluded": dict(tracks.excluded),
            "folds_digest": self._folds_digest,
            **environment(settings.device),
        }

    @property
    def _folds_digest(self) -> str:
        """Of the folds of all seeds, which a plugin may decide, with their inner folds."""
        return content_digest(
            [
                [
                    [[fold.train.tolist(), fold.test.tolist(), *_listed(fold.inner)] for fold in folds]
                    for folds in self.folds.values()
                ],
                *([[inner.tolist() for inner in self.inner.values()]] if self.inner else []),
            ]
        )

    def trainings(self, run: RunFolder) -> list[FoldTraining]:
        """Return all trainings of the run, whether finished or not, always in the same order."""
        tracks, settings = self.tracks, self.settings
        described, command = describe_settings(settings, self.plugins), run.manifest["command"]
        trainings = []
        for seed, folds in self.folds.items():
            provenance = training_provenance(tracks, described, seed, command)
            for fold in folds:
                for methods in by_training(self.methods):
                    approach = methods[0].approach
                    name = f"{slug(methods[0].training_name)}-seed{seed}-fold{fold.index}"
                    saved = self.saved.get(approach.name)
                    job = Job.of(
                        tracks,
                        rows=fold.train,
                        methods=methods,
                        settings=settings,
                        seed=seed,
                        fold=fold.index,
                        provenance={**provenance, "fold": fold.index},
                        checkpoint=run.checkpoints / f"{name}.safetensors",
                        grouped=self._grouped(folds),
                    )
                    first = seed == settings.seed[0] and fold.index == 0
                    trainings.append(
                        FoldTraining(
                            job=job,
                            test=fold.test,
                            ids=tracks.ids,
                            part=run.part(name),
                            models=run.models if settings.keep_models else None,
                            keep_embeddings=self._kept_embeddings(approach.name, first),
                            saved=None if saved is None else self._saved_embeddings(saved, run),
                            selection=self._selection(methods, seed, fold.index),
                            stacking=Stacking.of(methods, self._stacked, self.inner.get((seed, fold.index))),
                        )
                    )
        return trainings

    def _selection(self, methods: Sequence[Method], seed: int, fold: int) -> Selection | None:
        if not self.candidates:
            return None
        choices = tuple(choice.name for choice in self.settings.choices)
        metric = headline(self.tracks.task, self.settings.metric).name
        return Selection(metric, choices, self.candidates, self.inner[seed, fold]).of(methods)

    @property
    def _stacked(self) -> set[str]:
        """The members of stacked methods."""
        return stacked_members(self.methods)

    def _grouped(self, folds: Sequence[Fold]) -> bool:
        """Whether inner folds keep groups apart, as the folds do."""
        return inner_scheme(str(self.settings.folds), self.tracks.task, folds, self.tracks.groups) == "grouped"

    def _saved_embeddings(self, saved: SavedNetwork, run: RunFolder) -> SavedEmbeddings:
        trained_on = [row for row, name in enumerate(self.tracks.recordings) if name in saved.recordings]
        path = run.checkpoints / f"{saved.folder.name}.safetensors"
        return SavedEmbeddings(saved.folder, path, np.array(trained_on, np.int64))

    def _kept_embeddings(self, approach: str, first: bool) -> Literal["all", "last", "none"]:
        if approach == "chance":
            return "none"
        if self.settings.keep_embeddings:
            return "all"
        return "last" if first else "none"


def plan_run(
    settings: Settings,
    tracks: Tracks,
    registry: Registry,
    plugins: Mapping[str, Any],
    official: Mapping[str, Sequence[Split]] | None = None,
    name: str = "",
    saved: Mapping[str, SavedNetwork] | None = None,
) -> PlannedRun:
    """Plan an evaluation on one dataset: fill in how the tracks are split, and draw the folds.

    Parameters
    ----------
    settings : Settings
        With device and engine resolved.
    tracks : Tracks
    registry : Registry
    plugins : mapping
        See `mirembed.fit.resolve.describe_plugins`.
    official : mapping of str to sequence of Split, or None
        The official splits of the dataset.
    name : str
        Of the run's folder, if it is one of several of an experiment.
    saved : mapping of str to SavedNetwork, or None
        See `mirembed.fit.saved.open_saved`.

    Raises
    ------
    SpecError
        If the settings of the splits, of what is chosen or of the comparisons are wrong, or the task does not have
        the metric; or a table of folds does not fit the tracks.
    PluginError
        If a plugin rejects a value to choose from, or a learner cannot learn the task.
    EvaluationError
        If the tracks cannot be split this way.
    ModelError
        If models are to be kept, and one with a learner could not be loaded again.
    """
    settings = replace(settings, metric=headline(tracks.task, settings.metric).name)
    settings = choose_splits(settings, tracks.task, official or {})
    file = read_folds_file(Path(str(settings.folds))) if is_folds_file(settings.folds) else None
    folds, notes = draw_folds(settings, tracks, official or {}, file)
    saved = saved or {}
    overlaps = [network.overlap_warning(tracks, method) for method, network in saved.items()]
    notes += [warning for warning in overlaps if warning is not None]
    methods = with_saved(settings.methods, saved)
    Comparisons.of(methods, settings.against, settings.primary)  # an unknown method is reported before any training
    files = registry.files([plugins, tracks.info.plugin])
    planned = PlannedRun(name, settings, methods, tracks, plugins, folds, notes, saved, files, folds_file=file)
    if settings.select:
        candidates = plan_candidates(settings, methods, registry, describe_settings(settings, plugins))
        planned = replace(planned, candidates=candidates)
    if settings.select or planned._stacked:
        planned = replace(planned, inner=_inner_folds(settings, tracks, folds))
        n_inner = min(int(inner.max()) + 1 for inner in planned.inner.values())
        check_stacked(settings, planned.candidates, planned._stacked, n_inner)
    check_learners(registry, learners_of(planned.all_methods), tracks.task, saved=settings.keep_models)
    return planned


def _inner_folds(settings: Settings, tracks: Tracks, folds: Folds) -> dict[tuple[int, int], NDArray[np.int64]]:
    """Return the inner folds of each seed and fold: those that the fold has, otherwise drawn as it was.

    Raises
    ------
    SpecError
        If the folds have inner folds, and others are asked for.
    EvaluationError
        If training tracks cannot be split again.
    """
    task, labels, groups = tracks.task, tracks.label_array, tracks.groups
    first, n_folds = folds[settings.seed[0]], settings.inner_cv
    if any(fold.inner is not None for fold in first) and n_folds != defaults.INNER_FOLDS:
        raise SpecError(f"--inner-cv {n_folds}: --folds {settings.folds} has inner folds of its own; omit --inner-cv")
    scheme = inner_scheme(str(settings.folds), task, first, groups)
    return {
        (seed, fold.index): draw_inner_folds(task, labels, groups, fold, scheme=scheme, n_folds=n_folds, seed=seed)
        if fold.inner is None
        else checked_inner_folds(task, labels, fold, fold.inner)
        for seed, of_seed in folds.items()
        for fold in of_seed
    }


def _listed(inner: NDArray[np.int64] | None) -> list[list[int]]:
    """Return the inner folds of the training tracks in a list, which is empty if there are none."""
    return [] if inner is None else [inner.tolist()]


def tracks_digest(tracks: Tracks) -> str:
    """Return a digest of tracks, labels and recordings, whatever their features: what two runs must share."""
    labels = np.asarray(tracks.labels).tolist()
    return content_digest([task_to_json(tracks.task), tracks.ids, labels, tracks.groups, tracks.recordings], 16)


def choose_splits(settings: Settings, task: Task, official: Mapping[str, Sequence[Split]]) -> Settings:
    """Fill in ``--folds``, and ``--cv`` or ``--splits`` with ``--test-size``.

    Raises
    ------
    SpecError
        If the scheme is unknown, or two ways of splitting are given.
    """
    cv, splits, test_size = settings.cv, settings.splits, settings.test_size
    if splits is not None and cv is not None:
        raise SpecError(f"--cv {cv} and --splits {splits}: choose cross-validation or repeated random splits")
    if test_size is not None and splits is None:
        raise SpecError(f"--test-size {test_size:g} needs repeated random splits; set their number with --splits")
    scheme = settings.folds
    if scheme is None and splits is not None:
        scheme = "random"
    scheme = choose_scheme(scheme, task, official)
    if scheme in official or is_folds_file(scheme):
        what = "official splits" if scheme in official else "folds of a table"
        for flag, number in (("cv", cv), ("splits", splits)):
            if number is not None:
                raise SpecError(f"--{flag} {number} and --folds {scheme}: the number of {what} is fixed; omit --{flag}")
        return replace(settings, folds=scheme)
    if splits is None:
        return replace(settings, folds=scheme, cv=defaults.N_FOLDS if cv is None else cv)
    return replace(settings, folds=scheme, test_size=defaults.TEST_SIZE if test_size is None else test_size)


@interruptible()
def draw_folds(
    settings: Settings, tracks: Tracks, official: Mapping[str, Sequence[Split]], file: FoldsFile | None = None
) -> tuple[Folds, list[str]]:
    """Draw the folds of every seed, as `choose_splits` says; return them, and each note about them once.

    Raises
    ------
    SpecError
        If the table ``file`` of the folds does not fit the tracks.
    EvaluationError
        If the tracks cannot be split this way, or there is nothing to learn in a fold.
    """
    task, labels, groups = tracks.task, tracks.label_array, tracks.groups
    scheme, n_splits, test_size = cast(Scheme, settings.folds), settings.splits, settings.test_size
    folds: dict[int, list[Fold]] = {}
    notes: dict[str, None] = {}
    for seed in settings.seed:
        if settings.cv is not None:
            made = make_folds(task, labels, scheme=scheme, n_folds=settings.cv, seed=seed, groups=groups)
        elif n_splits is not None and test_size is not None:
            made = make_splits(
                task, labels, scheme=scheme, n_splits=n_splits, test_size=test_size, seed=seed, groups=groups
            )
        elif file is not None:
            made = own_folds(task, labels, file, tracks.ids, {*tracks.excluded, *tracks.lacking})
        else:
            made = official_folds(task, labels, official[scheme], tracks.ids)
        folds[seed] = made[0]
        notes |= dict.fromkeys(made[1])
        for size in settings.train_size:
            whole_groups = tracks.group_codes if scheme == "grouped" else None
            folds[seed], more = shrunk_folds(task, labels, made[0], size, seed=seed, groups=whole_groups)
            notes |= dict.fromkeys(more)
        _require_varied(task, labels, folds[seed])
    return folds, [*notes, *_warnings(tracks, folds[settings.seed[0]])]


def _require_varied(task: Task, labels: NDArray[Any], folds: Sequence[Fold]) -> None:
    """Refuse folds whose training tracks all have the same value of a target without a declared range."""
    for fold in folds:
        try:
            scale_for(task, labels[fold.train])
        except EvaluationError as error:
            raise EvaluationError(f"fold {fold.index}: {error}, or use other folds (--folds, --seed)") from error


def _warnings(tracks: Tracks, folds: Sequence[Fold]) -> list[str]:
    notes = small_test_parts(folds)
    if crossing := groups_on_both_sides(folds, tracks.groups):
        n_test = sum(len(fold.test) for fold in folds)
        share = "shares its" if crossing == 1 else "share their"
        notes.append(
            f"warning: {crossing} of {n_test} test tracks {share} group (artist) with a training track of the fold, "
            "which inflates the scores; use --folds grouped to keep groups apart"
        )
    if copies := groups_on_both_sides(folds, tracks.audio_hashes):
        notes.append(
            f"warning: {counted(copies, 'test track')} {'has' if copies == 1 else 'have'} exactly the same audio as a "
            "training track of the fold; `mirembed datasets check` lists such copies"
        )
    inner = [one for fold in folds for one in fold.inner_folds()]
    if crossing := groups_on_both_sides(inner, tracks.groups) + groups_on_both_sides(inner, tracks.audio_hashes):
        share = "shares its" if crossing == 1 else "share their"
        notes.append(
            f"warning: {counted(crossing, 'test track')} of the inner folds {share} group (artist) or audio with a "
            "training track of the inner fold, which biases what --select chooses"
        )
    return notes


def small_test_parts(folds: Sequence[Fold]) -> list[str]:
    """Return a warning if a fold tests so few tracks that the intervals mean little."""
    smallest = min(len(fold.test) for fold in folds)
    if smallest >= _SMALL_TEST_PART:
        return []
    where = "the test part of a fold has" if len(folds) > 1 else "the test part has"
    return [
        f"warning: {where} only {counted(smallest, 'track')}; with fewer than {_SMALL_TEST_PART}, scores are coarse "
        "and their intervals mean little"
    ]


def fold_sizes(folds: Folds, n_tracks: int) -> Sizes:
    """Count the tracks of the folds of all seeds."""
    all_folds = [fold for of_seed in folds.values() for fold in of_seed]
    used = np.unique(np.concatenate([rows for fold in all_folds for rows in (fold.train, fold.test)]))
    return Sizes(
        n_tracks,
        len(used),
        float(np.mean([len(fold.train) for fold in all_folds])),
        float(np.mean([len(fold.test) for fold in all_folds])),
    )


def chance(task: Task, labels: NDArray[Any], folds: Folds, metric: str | None = None) -> float | None:
    """Return the score of the approach ``chance`` on the test tracks, a mean over the folds; None if undefined in all.

    It always predicts the most frequent class of the training tracks, their majority for each tag, or the mean of each
    target. ``metric`` is the headline; None: the default of the task.
    """
    tests = [(seed, fold) for seed, of_seed in folds.items() for fold in of_seed]
    n_test = [len(fold.test) for _, fold in tests]
    guesses = [
        chance_estimator(task)
        .fit(np.zeros((len(fold.train), 1)), labels[fold.train])
        .predict(np.zeros((len(fold.test), 1)))
        for _, fold in tests
    ]
    truth = np.concatenate([labels[fold.test] for _, fold in tests])
    predicted = np.concatenate(guesses).reshape(len(truth), -1)
    predictions = Predictions(
        seeds=np.repeat([seed for seed, _ in tests], n_test),
        folds=np.repeat([fold.index for _, fold in tests], n_test),
        ids=np.concatenate([fold.test for _, fold in tests]).astype(str),
        truth=truth.reshape(len(truth), -1),
        predicted=predicted,
        scores=predicted.astype(np.float64) if isinstance(task, Tags) else None,
    )
    name = headline(task, metric).name
    score = float(nan_mean(fold_scores(predictions, task, [name])[name, None]))
    return None if np.isnan(score) else score
