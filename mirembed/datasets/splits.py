"""How tracks are split: into folds for cross-validation, repeatedly at random, or as a dataset's authors did.

Three schemes: ``random``; ``stratified``, each fold with the proportions of classes or tags of the whole; ``grouped``,
no group (usually an artist) in both the training and the test part of a fold, and proportions as close to stratified as
that allows.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from mirembed.config.settings import FOLDS_FILES, is_folds_file
from mirembed.datasets.tag_folds import distribute_groups, rare_tags, stratify_tags, tag_notes
from mirembed.errors import EvaluationError, SpecError
from mirembed.hookspecs import Classification, Regression, Split, Tags, Task
from mirembed.progress import counted
from mirembed.store.tracks import group_numbers

if TYPE_CHECKING:
    from _typeshed import SupportsGetItem
    from numpy.typing import NDArray

Scheme: TypeAlias = Literal["random", "stratified", "grouped"]
Groups: TypeAlias = Sequence[str | None]


@dataclass(frozen=True, eq=False)
class Fold:
    """One split of the tracks.

    Attributes
    ----------
    index : int
        From 0.
    train, test : ndarray [n_train], [n_test], int64
        Rows of the tracks, ascending. In cross-validation every track is in the test part of one fold and in the
        training parts of all others; an official split may leave tracks out.
    inner : ndarray [n_train], int64, or None
        The inner fold that tests each training track, from 0; -1 for a track that all inner folds train on. None if
        inner folds are to be drawn.
    """

    index: int
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    inner: NDArray[np.int64] | None = None

    def inner_folds(self) -> list[Fold]:
        """Return the inner folds that ``inner`` gives, as rows of the tracks; none if it is None.

        >>> fold = Fold(0, np.array([0, 1, 2, 5]), np.array([3, 4]), inner=np.array([0, 1, -1, 0]))
        >>> [(one.train.tolist(), one.test.tolist()) for one in fold.inner_folds()]
        [([1, 2], [0, 5]), ([0, 2, 5], [1])]
        """
        inner = self.inner
        if inner is None:
            return []
        numbers = range(int(inner.max()) + 1)
        return [Fold(number, self.train[inner != number], self.train[inner == number]) for number in numbers]


def default_scheme(task: Task) -> Scheme:
    """Return ``stratified`` for classes and tags, ``random`` for regression.

    >>> default_scheme(Classification(("blues", "jazz")))
    'stratified'
    """
    return "random" if isinstance(task, Regression) else "stratified"


def choose_scheme(name: str | None, task: Task, official: Collection[str] = ()) -> str:
    """Check ``--folds``: a `Scheme`, an official split of the dataset, or a table; None is the task's default.

    Raises
    ------
    SpecError
        If it is neither.
    """
    if name is None:
        return default_scheme(task)
    if name in get_args(Scheme) or name in official or is_folds_file(name):
        return name
    table = f"or a table ({', '.join(f'FILE{ending}' for ending in FOLDS_FILES)})"
    own = f"official splits ({', '.join(official)}), " if official else ""
    none = "" if official else "; this dataset has no official splits"
    raise SpecError(f"--folds {name}: expected {', '.join(get_args(Scheme))}, {own}{table}{none}")


def official_folds(
    task: Task, labels: NDArray[Any], splits: Sequence[Split], ids: Sequence[str], *, source: str = "this split"
) -> tuple[list[Fold], list[str]]:
    """Turn splits that name their tracks into folds of the tracks in the store.

    Parameters
    ----------
    task, labels
        As for `make_folds`.
    splits : sequence of Split
    ids : sequence of str
        Of all tracks, in the order of their rows.
    source : str
        Where the splits come from, for the notes.

    Returns
    -------
    folds : list of Fold
        Inner folds of which no track is in the store are left out.
    notes : list of str
        How many tracks are in no split, and how many tracks of the splits are missing.

    Raises
    ------
    EvaluationError
        If a split has no track to train on or to test on, a track in both parts, or a single class to train on.
    """
    parts = []
    for index, split in enumerate(splits):
        if shared := set(split.train) & set(split.test):
            raise EvaluationError(
                f"official split {index} has {counted(len(shared), 'track')} in both its training and its test part, "
                f"such as {min(shared)}; report it to the authors of the dataset's plugin"
            )
        train = np.array([row for row, track in enumerate(ids) if track in split.train], np.int64)
        test = np.array([row for row, track in enumerate(ids) if track in split.test], np.int64)
        if not (len(train) and len(test)):
            raise EvaluationError(
                f"official split {index} has {counted(len(train), 'training track')} and "
                f"{counted(len(test), 'test track')} with labels in the store and needs both; extract a more complete "
                f"copy of the dataset, or use other folds: --folds {default_scheme(task)}"
            )
        parts.append((train, test))
    listed = {track for split in splits for track in split.train | split.test}
    outside = sum(track not in listed for track in ids)
    missing = len(listed - set(ids))
    notes = []
    if outside:
        notes.append(f"{outside} of {counted(len(ids), 'track')} ignored: not in {source}")
    if missing:
        whole = counted(len(listed), "track")
        notes.append(f"{missing} of {whole} of {source} missing: not in the store, unlabeled or excluded")
    folds, notes = checked_folds(task, labels, parts, notes, remedy="use other folds (--folds)")
    return [
        replace(fold, inner=_inner(split.inner, [ids[row] for row in fold.train]))
        for fold, split in zip(folds, splits, strict=True)
    ], notes


def _inner(tests: Sequence[frozenset[str]], ids: Sequence[str]) -> NDArray[np.int64] | None:
    """Return the inner fold that tests each training track, see `Fold`; ``tests`` has the ids that each one tests."""
    number_of = {track: number for number, tested in enumerate(tests) for track in tested}
    return renumbered(np.array([number_of.get(track, -1) for track in ids], np.int64))


def renumbered(inner: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return inner folds numbered without gaps; None if there are none left.

    >>> renumbered(np.array([2, -1, 0, 2]))
    array([ 1, -1,  0,  1])
    """
    left = np.unique(inner[inner >= 0])
    return np.where(inner < 0, -1, np.searchsorted(left, inner)) if len(left) else None


def make_folds(
    task: Task, labels: NDArray[Any], *, scheme: Scheme, n_folds: int, seed: int, groups: Groups | None = None
) -> tuple[list[Fold], list[str]]:
    """Split tracks into folds for cross-validation; the same arguments give the same folds.

    Parameters
    ----------
    task : Classification, Tags or Regression
    labels : ndarray [n_tracks], int64, or [n_tracks, n_tags], int64, or [n_tracks, n_targets]
        Indices into ``task.classes``, tags of 0 and 1, or regression targets, whose values do not matter.
    scheme : {"random", "stratified", "grouped"}
    n_folds : int
        At least 2, at most the number of tracks, or of groups with ``grouped``.
    seed : int
        From 0 to 2**32 - 1.
    groups : sequence of str or None, optional
        One for each track, used by ``grouped`` only. A track without a group is a group of its own.

    Returns
    -------
    folds : list of Fold
    notes : list of str
        Anything the user should know about them, one line each.

    Raises
    ------
    EvaluationError
        If the tracks cannot be split this way, or a training part would hold a single class.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    if n_folds < 2:
        raise EvaluationError(f"--cv is {n_folds}: cross-validation needs at least 2 folds")
    codes, notes = _group_codes(scheme, groups)
    thing, count = ("track", len(labels)) if codes is None else ("group", len(np.unique(codes)))
    if count < n_folds:
        raise EvaluationError(f"cannot split {counted(count, thing)} into {n_folds} folds; use fewer folds (--cv)")
    notes += _check_classes(task, labels, scheme, n_folds)
    if isinstance(task, Tags) and scheme != "random":
        if codes is None:
            fold_of = stratify_tags(labels, [1 / n_folds] * n_folds, seed)
        else:
            fold_of = distribute_groups(labels, codes, n_folds, seed)
        tests = [fold_of == fold for fold in range(n_folds)]
        return checked_folds(task, labels, [(np.flatnonzero(~test), np.flatnonzero(test)) for test in tests], notes)
    grouped = StratifiedGroupKFold if isinstance(task, Classification) else GroupKFold
    splitter = {"random": KFold, "stratified": StratifiedKFold, "grouped": grouped}[scheme]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about rare classes, which the notes report
        parts = list(splitter(n_folds, shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels, codes))
    return checked_folds(task, labels, parts, notes)


def make_splits(
    task: Task,
    labels: NDArray[Any],
    *,
    scheme: Scheme,
    n_splits: int,
    test_size: float,
    seed: int,
    groups: Groups | None = None,
) -> tuple[list[Fold], list[str]]:
    """Split tracks repeatedly into a training and a test part; the same arguments give the same splits.

    The test parts of different splits overlap: a track is tested in some and trained on in others.

    Parameters
    ----------
    task, labels, scheme, seed, groups
        As for `make_folds`.
    n_splits : int
    test_size : float
        Share of the tracks, or with ``grouped`` of the groups, in the test part; between 0 and 1.

    Returns
    -------
    folds : list of Fold
    notes : list of str

    Raises
    ------
    EvaluationError
        If the tracks cannot be split this way, or a training part would hold a single class.
    """
    from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit

    if n_splits < 1:
        raise EvaluationError(f"--splits is {n_splits}: expected at least 1")
    if not 0 < test_size < 1:
        raise EvaluationError(f"--test-size is {test_size:g}: expected a share of the tracks, between 0 and 1")
    codes, notes = _group_codes(scheme, groups)
    notes += _check_classes(task, labels, scheme, 1)
    if isinstance(task, Tags) and scheme == "stratified":
        tests = [stratify_tags(labels, [1 - test_size, test_size], (seed, number)) > 0 for number in range(n_splits)]
        if any(test.all() or not test.any() for test in tests):
            raise EvaluationError(
                f"{counted(len(labels), 'track')} are too few for --folds stratified --test-size {test_size:g}: a "
                "training or test part would be empty"
            )
        return checked_folds(task, labels, [(np.flatnonzero(~test), np.flatnonzero(test)) for test in tests], notes)
    splitter = {"random": ShuffleSplit, "stratified": StratifiedShuffleSplit, "grouped": GroupShuffleSplit}[scheme]
    try:
        parts = list(
            splitter(n_splits, test_size=test_size, random_state=seed).split(np.zeros(len(labels)), labels, codes)
        )
    except ValueError as error:
        raise EvaluationError(
            f"cannot split {counted(len(labels), 'track')} with --folds {scheme} --test-size {test_size:g}: {error}"
        ) from error
    return checked_folds(task, labels, parts, notes)


def groups_on_both_sides(folds: Iterable[Fold | Split], groups: SupportsGetItem[Any, str | None]) -> int:
    """Count the test tracks, over all folds, whose group is also in the training part of their fold.

    ``groups`` gives the group of each track, by its row in a `Fold` or its id in a `Split`.

    >>> groups_on_both_sides([Fold(0, np.array([0, 1]), np.array([2, 3]))], ["ann", "bob", "ann", None])
    1
    """
    count = 0
    for fold in folds:
        trained = {groups[row] for row in fold.train} - {None}
        count += sum(groups[row] in trained for row in fold.test)
    return count


def _group_codes(scheme: Scheme, groups: Groups | None) -> tuple[NDArray[np.int64] | None, list[str]]:
    """Return a number for the group of each track, and a note about tracks without one; None unless ``grouped``."""
    if scheme != "grouped":
        return None, []
    groups = () if groups is None else groups
    without_group = sum(group is None for group in groups)
    if without_group == len(groups):
        raise EvaluationError("grouped folds need groups, and no track has one: use another scheme (--folds)")
    note = f"{counted(without_group, 'track')} without a group; such a track counts as a group of its own"
    return group_numbers(groups), [note] if without_group else []


def _check_classes(task: Task, labels: NDArray[Any], scheme: Scheme, n_folds: int) -> list[str]:
    """Check that there are enough classes and tracks of a class, and return a note about rare classes or tags."""
    if isinstance(task, Regression):
        if scheme == "stratified":
            raise EvaluationError("stratified folds need classes or tags, and this is a regression: use --folds random")
        return []
    if isinstance(task, Tags):
        if (labels == labels[0]).all():
            raise EvaluationError(f"all {len(labels)} tracks have the same tags, so there is nothing to learn")
        return [] if scheme == "random" else rare_tags(task, labels, n_folds)
    counts = np.bincount(labels, minlength=len(task.classes))
    if np.count_nonzero(counts) < 2:
        name = task.classes[int(counts.argmax())]
        raise EvaluationError(f"all {len(labels)} tracks are of class {name!r}: at least two classes are needed")
    if scheme == "random":
        return []
    if counts.max() < n_folds:
        raise EvaluationError(
            f"{scheme} folds need a class with {n_folds} tracks, and the largest has {counts.max()}: use fewer folds "
            "(--cv)"
        )
    rare = [f"{name} ({n})" for name, n in zip(task.classes, counts, strict=True) if 0 < n < n_folds]
    return [f"classes with fewer tracks than the {n_folds} folds: {', '.join(rare)}"] if rare else []


def checked_folds(
    task: Task,
    labels: NDArray[Any],
    parts: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]],
    notes: list[str],
    *,
    remedy: str = "use fewer folds (--cv), another --seed or another scheme (--folds)",
) -> tuple[list[Fold], list[str]]:
    """Make folds of training and test rows; check that there is something to learn, and note what is absent."""
    folds = [Fold(index, np.sort(train), np.sort(test)) for index, (train, test) in enumerate(parts)]
    if isinstance(task, Regression):
        return folds, notes
    if isinstance(task, Tags):
        for fold in folds:
            if (labels[fold.train] == labels[fold.train[0]]).all():
                raise EvaluationError(f"the training tracks of fold {fold.index} all have the same tags: {remedy}")
        return folds, [*notes, *tag_notes(task, labels, [(fold.train, fold.test) for fold in folds])]
    absent = []
    for fold in folds:
        trained = np.unique(labels[fold.train])
        if len(trained) < 2:
            raise EvaluationError(
                f"the training part of fold {fold.index} holds only class {task.classes[trained[0]]!r}: {remedy}"
            )
        missing = np.setdiff1d(labels[fold.test], trained)
        absent += [f"{task.classes[label]} (fold {fold.index})" for label in missing]
    if absent:
        notes.append(f"test classes absent from training: {', '.join(absent)}")
    return folds, notes
