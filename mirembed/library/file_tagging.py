"""Write predictions of a model into file tags: plan the changes, write them, and undo them.

A file is never changed in place. A copy beside it gets the tags, reaches the disk, and takes the file's name, so each
file is old or new whenever the program is killed. The undo file is written before that. Other hard links of the file,
which may belong to a program that shares or backs it up, keep the old bytes.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, TypeAlias

from mirembed.audio.file_tags import read_file_tags
from mirembed.audio.files import file_hash, file_stamp, printable
from mirembed.audio.tag_fields import GENRE, MOOD, TagFields, field_name
from mirembed.errors import AudioError, SpecError, StoreWriteError
from mirembed.hookspecs import Regression
from mirembed.library.rewritten import Rewritten, follow, only_writer_of
from mirembed.library.undo import Undo, UndoLog, difference, restore
from mirembed.models.base import AnyModel
from mirembed.models.inference import EmbeddedFiles
from mirembed.models.predictions import Ranking
from mirembed.progress import Progress
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.exports import write_rows
from mirembed.store.files import remove_leftovers, writing

MIN_SCORE = 0.7
"""Lowest probability of a class or tag that is written."""

Existing: TypeAlias = Literal["keep", "add", "replace"]
"""What to do if a file has the field already: leave it, add what is missing, or write only what is predicted."""

_FOLLOW_SECONDS = 30.0
"""The store is updated this often; a killed process leaves at most this much work for `update`."""


@dataclass(frozen=True)
class Change:
    """A change of one field in one file.

    Attributes
    ----------
    path : pathlib.Path
    recording : str
        Recording in the file when it was embedded.
    field : str
        ``genre``, ``mood``, or the name of another field.
    old, new : tuple of str
        Values of the field; empty if the file does not have it.
    probability : tuple of float
        Probabilities of the predicted values; empty for targets.
    """

    path: Path
    recording: str
    field: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    probability: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the change as JSON."""
        values = {name: value for name, value in asdict(self).items() if name != "recording"}
        return {**values, "path": printable(self.path)}


@dataclass
class Plan:
    """What is written into files, and what is not.

    Attributes
    ----------
    changes : list of Change
        The changes of one file are consecutive.
    n_unsure : int
        Files for which no prediction is probable enough.
    n_kept : int
        Fields that keep their values.
    n_equal : int
        Fields that already have the predicted values.
    n_linked : int
        Files to change that have other hard links, which keep the old bytes.
    failures : list of (pathlib.Path, str)
        Files that cannot be tagged, with the reason.
    """

    changes: list[Change] = field(default_factory=list)
    n_unsure: int = 0
    n_kept: int = 0
    n_equal: int = 0
    n_linked: int = 0
    failures: list[tuple[Path, str]] = field(default_factory=list)


def choose_fields(model: AnyModel, given: str | None) -> list[str]:
    """Return the fields for what a model predicts: one for classes and tags, one for each target.

    Parameters
    ----------
    model : AnyModel
    given : str or None
        ``--field``. Default: ``genre``, or ``mood`` if the model learned the moods of files; for targets, their names.

    Raises
    ------
    SpecError
        The name cannot be used, or is needed, because the model learned neither genres nor moods.
    """
    if isinstance(model.task, Regression):
        names = [target.name for target in model.task.targets]
        if given is None:
            return [field_name(name) for name in names]
        if len(names) > 1 or field_name(given) in (GENRE, MOOD):
            raise SpecError(
                f"--field {given}: the model predicts numbers ({', '.join(names)}); leave out --field to write each "
                "into a field of its own name"
            )
        return [field_name(given)]
    if given is not None:
        return [field_name(given)]
    learned = str(Spec.parse(model.provenance["dataset"]["spec"]).parameters.get("label", GENRE))
    if learned not in (GENRE, MOOD):
        raise SpecError(
            f"the model predicts {learned!r}, neither genres nor moods; name the field to write with --field"
        )
    return [learned]


def learns_from(model: AnyModel, fields: Sequence[str]) -> bool:
    """Whether the dataset that a model was fitted to takes its labels from one of these fields."""
    spec = Spec.parse(model.provenance["dataset"]["spec"])
    return spec.name == "library" and str(spec.parameters.get("label", GENRE)) in fields


def plan_tags(
    model: AnyModel,
    files: EmbeddedFiles,
    fields: Sequence[str],
    *,
    min_score: float | None,
    existing: Existing,
    progress: Progress,
) -> Plan:
    """Compare predictions for files with their file tags; nothing is written.

    Parameters
    ----------
    model : AnyModel
    files : EmbeddedFiles
    fields : sequence of str
        See `choose_fields`.
    min_score : float or None
        Lowest probability of a class or tag; None for `MIN_SCORE`.
    existing : {"keep", "add", "replace"}
    progress : Progress

    Raises
    ------
    SpecError, ModelError
        The score is not a probability, or the model gives none; see `Ranking.of`.
    """
    plan = Plan(failures=list(files.failures))
    progress.start("reading file tags", len(files.paths))
    for number, predicted in enumerate(_predictions(model, files, fields, min_score)):
        path = files.paths[number]
        if not any(values for _, values, _ in predicted):
            plan.n_unsure += 1
        else:
            try:
                require_taggable(path)
                tags, n_changes = TagFields(path), len(plan.changes)
                for name, values, probabilities in predicted:
                    _plan_field(plan, path, files.recordings[number], tags, (name, values, probabilities), existing)
                plan.n_linked += len(plan.changes) > n_changes and path.stat().st_nlink > 1
            except (AudioError, OSError) as error:
                plan.failures.append((path, _reason(error)))
        progress.update(number + 1, failed=len(plan.failures))
    return plan


_Predicted: TypeAlias = tuple[str, tuple[str, ...], tuple[float, ...]]
"""A field, its values, and their probabilities."""


def _predictions(
    model: AnyModel, files: EmbeddedFiles, fields: Sequence[str], min_score: float | None
) -> Iterator[list[_Predicted]]:
    """Yield the predictions for each file, without values if nothing is probable enough."""
    if isinstance(model.task, Regression):
        Ranking.of(model, None, min_score)  # refuses a score for numbers
        for row in model.predict(files.embeddings):
            yield [(name, (f"{value:.4g}",), ()) for name, value in zip(fields, row.tolist(), strict=True)]
        return
    ranking = Ranking.of(model, None, MIN_SCORE if min_score is None else min_score)
    probabilities = model.probabilities(files.embeddings)
    assert ranking is not None and probabilities is not None  # noqa: S101
    for row in ranking.rows(model.task, probabilities):
        label, probability = row["label"], row["probability"]
        if not isinstance(label, list):
            label, probability = ([], []) if label is None else ([label], [probability])
        pairs = [(text, value) for one, value in zip(label, probability, strict=True) if (text := _clean(one))]
        yield [(fields[0], tuple(text for text, _ in pairs), tuple(value for _, value in pairs))]


def _plan_field(
    plan: Plan, path: Path, recording: str, tags: TagFields, predicted: _Predicted, existing: Existing
) -> None:
    name, values, probabilities = predicted
    old = known = tuple(tags.get(name))
    if not old and name in (GENRE, MOOD):  # the file may have it in other tags
        known = getattr(read_file_tags(path), f"{name}s")
    if existing == "add":
        has = {text.casefold() for text in known}
        new = (*known, *(value for value in values if value.casefold() not in has))
    else:
        new = values
    if existing == "keep" and known:
        plan.n_kept += 1
    elif tuple(new) == old:
        plan.n_equal += 1
    else:
        plan.changes.append(Change(path, recording, name, old, tuple(new), probabilities))


def _clean(text: str) -> str:
    """Return a text without control characters, at which some containers would cut it."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text).strip()


def write_tags(
    store: Store, changes: Sequence[Change], log: UndoLog, progress: Progress
) -> tuple[int, list[tuple[Path, str]]]:
    """Write changes into files, and update the store.

    Parameters
    ----------
    store : Store
    changes : sequence of Change
        The changes of one file are consecutive.
    log : UndoLog
    progress : Progress

    Returns
    -------
    int
        Number of files that were written.
    list of (pathlib.Path, str)
        Files that could not be written, with the reason.

    Raises
    ------
    StoreWriteError
        The undo file or the store cannot be written, or the disk is full.
    """

    def tag(path: Path, group: Sequence[Change]) -> Callable[[Path], str]:
        def change(copy: Path) -> str:
            if file_hash(copy) != group[0].recording:
                raise AudioError("changed since the last update; run `mirembed update`")
            tags = TagFields(copy)
            old = {one.field: tuple(tags.get(one.field)) for one in group}
            new = {one.field: one.new for one in group}
            tags.write(new)
            after = file_hash(copy)
            log.add(Undo(str(path.absolute()), group[0].recording, after, old, new, difference(path, copy)))
            return after

        return change

    groups = [(path, list(group)) for path, group in groupby(changes, key=lambda change: change.path)]
    return _rewrite_all(store, [(path, tag(path, group)) for path, group in groups], "writing file tags", progress)


def remove_unfinished(paths: Iterable[Path]) -> None:
    """Delete unfinished copies that a killed process has left beside files."""
    for folder in {path.parent for path in paths}:
        remove_leftovers(folder)


def undo_tags(store: Store, undos: Sequence[Undo], progress: Progress) -> tuple[int, list[tuple[Path, str]]]:
    """Restore files that `write_tags` has written, and update the store; returns the same as `write_tags`.

    A file gets its old bytes back or, if something else in it has changed since, the old values of the fields. If a
    field no longer has the values that were written, the file is left as it is and reported.
    """

    def back(undo: Undo) -> Callable[[Path], str]:
        def change(copy: Path) -> str:
            path = Path(undo.path)
            tags = TagFields(copy)  # first: nothing but an audio file is ever replaced
            if file_hash(copy) == undo.after and undo.pieces is not None:
                if restore(path, undo.pieces, copy) == undo.before and _has(copy, undo.old):
                    return undo.before
                shutil.copyfile(path, copy)
            for name, new in undo.new.items():
                if (now := tags.get(name)) != list(new):
                    raise AudioError(f"left as it is: its {name} has changed since, to {'; '.join(now) or 'nothing'}")
            tags.write(undo.old)
            return file_hash(copy)

        return change

    left = [undo for undo in reversed(undos) if file_hash(Path(undo.path)) != undo.before]
    return _rewrite_all(store, [(Path(undo.path), back(undo)) for undo in left], "restoring file tags", progress)


def _has(path: Path, values: Mapping[str, Sequence[str]]) -> bool:
    """Whether a file is an audio file whose fields have these values."""
    try:
        tags = TagFields(path)
    except AudioError:
        return False
    return all(tags.get(name) == list(texts) for name, texts in values.items())


def _rewrite_all(
    store: Store, files: Sequence[tuple[Path, Callable[[Path], str]]], what: str, progress: Progress
) -> tuple[int, list[tuple[Path, str]]]:
    """Rewrite files, each with a function that changes a copy of it and returns the hash of the copy."""
    failures: list[tuple[Path, str]] = []
    waiting: list[Rewritten] = []
    n_written, followed_at = 0, time.monotonic()
    with only_writer_of(store):
        progress.start(what, len(files))
        try:
            for number, (path, change) in enumerate(files, 1):
                try:
                    waiting.append(_rewrite(path, change))
                    n_written += 1
                except (AudioError, OSError) as error:
                    failures.append((path, _reason(error)))
                if time.monotonic() - followed_at > _FOLLOW_SECONDS:
                    follow(store, waiting)
                    waiting, followed_at = [], time.monotonic()
                progress.update(number, failed=len(failures))
        finally:
            follow(store, waiting)
    return n_written, failures


def _rewrite(path: Path, change: Callable[[Path], str]) -> Rewritten:
    """Replace a file by a changed copy with the same mode, owner and attributes.

    Raises
    ------
    AudioError, OSError
        The file cannot be rewritten; it is unchanged.
    StoreWriteError
        The undo file cannot be written, or the disk is full.
    """
    require_taggable(path)
    before, stamp = file_hash(path), file_stamp(path)
    try:
        with writing(path) as copy:
            shutil.copy2(path, copy)
            status = path.stat()
            if (copy.stat().st_uid, copy.stat().st_gid) != (status.st_uid, status.st_gid):
                os.chown(copy, status.st_uid, status.st_gid)
            after = change(copy)
            if file_stamp(path) != stamp:
                raise AudioError("changed while its tags were written")
    except StoreWriteError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise cause from error
        raise
    return Rewritten(path, before, after, *file_stamp(path))


def require_taggable(path: Path) -> None:
    """Refuse a file that cannot simply be replaced by a changed copy.

    Raises
    ------
    AudioError
        It is a symbolic link, is read-only, or is not a regular file. The message does not repeat the path.
    OSError
        It is missing.
    """
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise AudioError(f"a symbolic link to {printable(path.resolve())}; tag that file")
    if not stat.S_ISREG(status.st_mode):
        raise AudioError("not a regular file")
    if not status.st_mode & 0o222 or not os.access(path, os.W_OK):
        raise AudioError("read-only; make it writable first")


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "missing"
    return f"cannot be written: {error.strerror or error}" if isinstance(error, OSError) else str(error)


def write_changes(path: Path, changes: Sequence[Change], *, bom: bool = False) -> None:
    """Write a table with one row per change, as CSV or Parquet.

    Raises
    ------
    StoreWriteError
    """
    import pyarrow as pa

    texts = pa.list_(pa.string())
    types = {"path": pa.string(), "field": pa.string(), "old": texts, "new": texts}
    schema = pa.schema({**types, "probability": pa.list_(pa.float64())})
    rows = ([printable(one.path), one.field, list(one.old), list(one.new), list(one.probability)] for one in changes)
    write_rows(path, rows, schema, bom=bom)
