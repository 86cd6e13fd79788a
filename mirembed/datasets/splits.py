"""How tracks are split into folds for cross-validation, or again and again into a training and a test part.

Three schemes: ``random``; ``stratified``, each fold with the class proportions of the whole; ``grouped``, no
group (usually an artist) in both the training and the test part of one fold, and classes as near to
stratified as that allows.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from mirembed.errors import EvaluationError, SpecError
from mirembed.hookspecs import Classification, Split, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sklearn.model_selection import BaseCrossValidator

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
        Rows of the tracks, ascending. In cross-validation they are together all tracks, and each track is in
        the test part of one fold; an official split may leave tracks out.
    """

    index: int
    train: NDArray[np.int64]
    test: NDArray[np.int64]


def default_scheme(task: Task) -> Scheme:
    """Return ``stratified`` for classes, ``random`` for regression."""
    return "stratified" if isinstance(task, Classification) else "random"


def choose_scheme(name: str | None, task: Task, official: Collection[str] = ()) -> str:
    """Read ``--folds``: a `Scheme`, or the name of one of the dataset's official splits; None is the task's default.

    Raises
    ------
    SpecError
    """
    if name is None:
        return default_scheme(task)
    if name in get_args(Scheme) or name in official:
        return name
    own = f", or its official {', '.join(official)}" if official else "; this dataset has no official splits"
    raise SpecError(f"--folds {name}: expected {', '.join(get_args(Scheme))}{own}")


def official_folds(
    task: Task, labels: NDArray[Any], splits: Sequence[Split], ids: Sequence[str]
) -> tuple[list[Fold], list[str]]:
    """Turn a dataset's official splits into folds of the tracks that are there.

    Parameters
    ----------
    task, labels
        As in `make_folds`.
    splits : sequence of Split
    ids : sequence of str
        Of all tracks, in the order of their rows.

    Returns
    -------
    folds : list of Fold
    notes : list of str
        How many tracks are in no list, and how many listed ones are not there.

    Raises
    ------
    EvaluationError
        A split has no track here to fit on or to score on, or a single class to fit on.
    """
    folds = []
    for index, split in enumerate(splits):
        if shared := set(split.train) & set(split.test):
            raise EvaluationError(
                f"official split {index} fits on {len(shared)} of the tracks that it scores on, such as {min(shared)}; "
                "report it to the authors of the dataset's plugin"
            )
        train = np.array([row for row, track in enumerate(ids) if track in split.train], np.int64)
        test = np.array([row for row, track in enumerate(ids) if track in split.test], np.int64)
        if not (len(train) and len(test)):
            raise EvaluationError(
                f"official split {index} has {len(train)} tracks to fit on and {len(test)} to score on in the store; "
                "more of the dataset is needed, or another scheme (--folds)"
            )
        folds.append(Fold(index, train, test))
    listed = {track for split in splits for track in split.train | split.test}
    outside = sum(track not in listed for track in ids)
    missing = len(listed - set(ids))
    notes = []
    if outside:
        notes.append(f"{outside} of {len(ids)} tracks are in no list of this scheme, and take no part")
    if missing:
        notes.append(
            f"{missing} of the {len(listed)} tracks of this scheme are not there: not in the store, or excluded"
        )
    if isinstance(task, Classification):
        notes += _check_training_parts(task, labels, folds)
    return folds, notes


def make_folds(
    task: Task,
    labels: NDArray[Any],
    *,
    scheme: Scheme,
    n_folds: int,
    seed: int,
    groups: Groups | None = None,
) -> tuple[list[Fold], list[str]]:
    """Split tracks into folds, the same for the same arguments.

    Parameters
    ----------
    task : Classification or Regression
    labels : ndarray [n_tracks], int64, or [n_tracks, n_targets]
        Indices into ``task.classes``, or regression targets, of which only the number of rows counts.
    scheme : {"random", "stratified", "grouped"}
    n_folds : int
        At least 2, at most the number of tracks, or of groups where they are grouped.
    seed : int
        From 0 to 2**32 - 1.
    groups : sequence of str or None, optional
        One for each track, used by ``grouped`` only. A track without a group is a group of its own.

    Returns
    -------
    folds : list of Fold
    notes : list of str
        What a user should be told about them, one line each.

    Raises
    ------
    EvaluationError
        The tracks cannot be split so, or a training part would hold a single class.
    """
    _check_scheme(scheme, task)
    _check_seed(seed)
    _check_count("tracks", len(labels), n_folds)
    notes: list[str] = []
    codes = None
    if scheme == "grouped":
        codes, without_group = _group_codes(() if groups is None else groups)
        _check_count("groups", len(np.unique(codes)), n_folds)
        notes += _ungrouped(without_group)
    if isinstance(task, Classification):
        notes += _check_classes(task, labels, scheme, n_folds)

    splitter = _splitter(task, scheme, n_folds, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of rare classes: the notes say it
        splits = list(splitter.split(np.zeros(len(labels)), labels, codes))
    folds = [Fold(index, np.sort(train), np.sort(test)) for index, (train, test) in enumerate(splits)]
    if isinstance(task, Classification):
        notes += _check_training_parts(task, labels, folds)
    return folds, notes


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
    """Split tracks into a training and a test part, again and again; the same for the same arguments.

    The test parts of different splits overlap: a track is tested in some and trained on in others.

    Parameters
    ----------
    task, labels, scheme, seed, groups
        As in `make_folds`.
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
        The tracks cannot be split so, or a training part would hold a single class.
    """
    from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit

    _check_scheme(scheme, task)
    _check_seed(seed)
    if n_splits < 1:
        raise EvaluationError(f"--splits is {n_splits}: expected at least 1")
    if not 0 < test_size < 1:
        raise EvaluationError(f"--test-size is {test_size:g}: expected a share of the tracks, between 0 and 1")
    notes: list[str] = []
    codes = None
    if scheme == "grouped":
        codes, without_group = _group_codes(() if groups is None else groups)
        notes += _ungrouped(without_group)
    if isinstance(task, Classification):
        notes += _check_classes(task, labels, "random", 1)
    kind = {"random": ShuffleSplit, "stratified": StratifiedShuffleSplit, "grouped": GroupShuffleSplit}[scheme]
    splitter = kind(n_splits, test_size=test_size, random_state=seed)
    try:
        splits = list(splitter.split(np.zeros(len(labels)), labels, codes))
    except ValueError as error:
        raise EvaluationError(
            f"{len(labels)} tracks cannot be split with --folds {scheme} --test-size {test_size:g}: {error}"
        ) from error
    folds = [Fold(index, np.sort(train), np.sort(test)) for index, (train, test) in enumerate(splits)]
    if isinstance(task, Classification):
        notes += _check_training_parts(task, labels, folds)
    return folds, notes


def groups_on_both_sides(folds: Sequence[Fold], groups: Groups) -> int:
    """Count the test tracks, over all folds, whose group also stands in the training part of their fold."""
    count = 0
    for fold in folds:
        trained = {groups[row] for row in fold.train} - {None}
        count += sum(groups[row] in trained for row in fold.test)
    return count


def _check_scheme(scheme: Scheme, task: Task) -> None:
    if scheme not in get_args(Scheme):
        raise EvaluationError(f"--folds is {scheme!r}: expected {', '.join(get_args(Scheme))}")
    if scheme == "stratified" and not isinstance(task, Classification):
        raise EvaluationError("stratified folds need classes, and this is regression: use --folds random")


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise EvaluationError(f"--seed is {seed}: expected a number from 0 to {2**32 - 1}")


def _check_count(things: str, count: int, n_folds: int) -> None:
    if n_folds < 2:
        raise EvaluationError(f"--cv is {n_folds}: cross-validation needs at least 2 folds")
    if count < n_folds:
        raise EvaluationError(f"{count} {things} cannot make {n_folds} folds: use fewer folds (--cv)")


def _group_codes(groups: Groups) -> tuple[NDArray[np.int64], int]:
    """Return a number for each track's group, and how many tracks have none."""
    without_group = sum(group is None for group in groups)
    if without_group == len(groups):
        raise EvaluationError("grouped folds need groups, and no track has one: use another scheme (--folds)")
    code_of: dict[str | int, int] = {}
    keys = [row if group is None else group for row, group in enumerate(groups)]
    return np.array([code_of.setdefault(key, len(code_of)) for key in keys], dtype=np.int64), without_group


def _ungrouped(count: int) -> list[str]:
    return [f"{count} tracks have no group: each counts as a group of its own"] if count else []


def _check_classes(task: Classification, labels: NDArray[np.int64], scheme: Scheme, n_folds: int) -> list[str]:
    counts = np.bincount(labels, minlength=len(task.classes))
    if np.count_nonzero(counts) < 2:
        name = task.classes[int(counts.argmax())]
        raise EvaluationError(f"all {len(labels)} tracks are of class {name!r}: at least two classes are needed")
    if scheme == "random":
        return []
    if counts.max() < n_folds:
        raise EvaluationError(
            f"no class has {n_folds} tracks (the largest has {counts.max()}), as {scheme} folds need: "
            "use fewer folds (--cv)"
        )
    rare = [f"{name} ({n})" for name, n in zip(task.classes, counts, strict=True) if 0 < n < n_folds]
    return [f"classes with fewer tracks than the {n_folds} folds: {', '.join(rare)}"] if rare else []


def _splitter(task: Task, scheme: Scheme, n_folds: int, seed: int) -> BaseCrossValidator:
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    if scheme == "random":
        kind = KFold
    elif scheme == "stratified":
        kind = StratifiedKFold
    else:
        kind = StratifiedGroupKFold if isinstance(task, Classification) else GroupKFold
    return kind(n_folds, shuffle=True, random_state=seed)


def _check_training_parts(task: Classification, labels: NDArray[np.int64], folds: list[Fold]) -> list[str]:
    untrained = []
    for fold in folds:
        trained = np.unique(labels[fold.train])
        if len(trained) < 2:
            raise EvaluationError(
                f"the training part of fold {fold.index} holds only class {task.classes[trained[0]]!r}: "
                "use fewer folds (--cv), another --seed or another scheme (--folds)"
            )
        missing = np.setdiff1d(labels[fold.test], trained)
        untrained += [f"{task.classes[label]} (fold {fold.index})" for label in missing]
    return [f"classes that a fold tests and cannot learn: {', '.join(untrained)}"] if untrained else []
