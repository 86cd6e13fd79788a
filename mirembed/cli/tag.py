"""``mirembed tag``: write predictions into the file tags of audio files, and undo that."""

from __future__ import annotations

import contextlib
import itertools
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mirembed.audio.files import audio_files, failures_json, require_existing
from mirembed.cli import options
from mirembed.cli.output import ConsoleProgress, Table, print_result, shown_path
from mirembed.errors import SpecError
from mirembed.interruption import RESUMES, interruptible, say_when_interrupted
from mirembed.progress import counted
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.files import check_output

if TYPE_CHECKING:
    from mirembed.library.file_tagging import Change, Existing, Plan
    from mirembed.models.base import AnyModel
    from mirembed.models.inference import EmbeddedFiles
    from mirembed.registry import Registry

_COLUMNS = ("path", "field", "old", "new", "probability")


def tag(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Model: a folder, or a name in the store.", show_default=False)
    ] = None,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH", help="Audio files, or folders of them. Default: the whole library.", show_default=False
        ),
    ] = None,
    dataset: options.Library = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    field: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Field to write: genre (the default), mood, or another name. Each target has a field of its own name.",
        ),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            metavar="P", help="Write only classes or tags of at least this probability, from 0 to 1. Default: 0.7."
        ),
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Add the predictions to the existing values.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing values with the predictions.")
    ] = False,
    write: Annotated[bool, typer.Option("--write", help="Write the tags. Otherwise nothing is changed.")] = False,
    undo_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Undo file to write. Default: beside the store, named after the time."),
    ] = None,
    undo: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Restore the files listed in this undo file, and do nothing else.", show_default=False
        ),
    ] = None,
    out: options.Out = None,
    force: options.Force = False,
    bom: options.Bom = False,
    jobs: options.Jobs = None,
    json: options.Json = False,
) -> None:
    """Write predicted genres, moods or targets into the file tags of audio files.

    Without --write, only list what would change.
    A file that already has a value keeps it, unless you give --add or --overwrite.
    Before a file is changed, the undo file records how to restore it with --undo FILE.
    """
    place = Store(store)
    if undo is not None:
        _undo(place, undo, json)
    if model is None:
        raise SpecError("give the MODEL whose predictions to write, or --undo FILE")
    if add and overwrite:
        raise SpecError("give either --add, which keeps existing values, or --overwrite, which replaces them")
    say_when_interrupted(RESUMES)
    options.check_out(out, force=force, bom=bom)
    if undo_file is not None and not write:
        raise SpecError("--undo-file needs --write, without which nothing is changed")
    if write:
        check_output(undo_file or _new_undo_file(store), force=None, flag="--undo-file")
    with interruptible():
        from mirembed.library.file_tagging import choose_fields, learns_from, plan_tags, remove_unfinished
        from mirembed.models.combined import load_model
        from mirembed.models.predictions import Ranking
        from mirembed.models.saved import find_model

    registry = options.discover()
    existing: Existing = "add" if add else "replace" if overwrite else "keep"
    with contextlib.ExitStack() as stack, ConsoleProgress() as progress:
        folder = find_model(place.models, model)
        require_existing(paths or [])
        with interruptible():
            loaded = load_model(folder, registry)
        fields = choose_fields(loaded, field)
        Ranking.of(loaded, None, min_score)  # refuses a wrong score before anything is embedded
        n_jobs = options.jobs_or_cores(jobs)
        files = stack.enter_context(_embedding(loaded, registry, place, model, paths or [], dataset, n_jobs, progress))
        plan = plan_tags(loaded, files, fields, min_score=min_score, existing=existing, progress=progress)
        if loaded.uncalibrated is not None:
            progress.note(f"warning: {loaded.uncalibrated}")
        if plan.n_linked:
            progress.note(
                f"{counted(plan.n_linked, 'file')} to tag {'has' if plan.n_linked == 1 else 'have'} other hard links: "
                "these keep the old tags, and no longer share disk space with the tagged file"
            )
        log, n_written, failures = None, 0, list(plan.failures)
        if write:
            remove_unfinished(files.paths)
        if write and plan.changes:
            log = undo_file or _new_undo_file(store)
            n_written, failed = _write(place, plan.changes, log, progress)
            failures += failed
            if learns_from(loaded, fields):
                progress.note("warning: models fitted to these file tags from now on learn from these predictions")
    _print(plan, fields, n_written if write else None, log, failures, out, bom, json)


@contextlib.contextmanager
def _embedding(
    model: AnyModel,
    registry: Registry,
    store: Store,
    name: str,
    paths: Sequence[Path],
    dataset: Spec | None,
    jobs: int,
    progress: ConsoleProgress,
) -> Iterator[EmbeddedFiles]:
    """Yield the embeddings of the given files, which are kept if the block is interrupted, or of the whole library."""
    from mirembed.library.neighbors import open_present
    from mirembed.models.inference import EmbeddedFiles, embedding_files

    if paths:
        found, notes = audio_files(paths)
        for note in notes:
            progress.note(note)
        with embedding_files(model, found, registry, store, jobs, progress) as embedded:
            yield embedded
        return
    library = open_present(store, registry, name, dataset, progress)
    rows = [row for row in range(len(library)) if library.is_unchanged(row)]
    if len(rows) < len(library):
        n_left = counted(len(library) - len(rows), "file")
        progress.note(f"left out {n_left} missing or changed since the last update; run `{library.staleness.command}`")
    yield EmbeddedFiles(
        paths=[library.path(row) for row in rows],
        recordings=[library.recordings[row] for row in rows],
        embeddings=library.vectors[rows],
        failures=[],
        audio_hashes=[library.audio_hashes[row] for row in rows],
    )


def _new_undo_file(store: Path) -> Path:
    """Return a name beside the store that no file has, with the date and time."""
    name = f"{store.absolute().name}-undo-{time.strftime('%Y%m%d-%H%M%S')}"
    endings = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    return next(path for ending in endings if not (path := store.with_name(f"{name}{ending}.jsonl")).exists())


def _write(
    store: Store, changes: Sequence[Change], path: Path, progress: ConsoleProgress
) -> tuple[int, list[tuple[Path, str]]]:
    from mirembed.library.file_tagging import write_tags
    from mirembed.library.undo import undo_log

    with undo_log(path, options.command_line()) as log:
        return write_tags(store, changes, log, progress)


def _undo(store: Store, path: Path, json: bool) -> None:
    from mirembed.library.file_tagging import undo_tags
    from mirembed.library.undo import read_undo

    say_when_interrupted(RESUMES)
    undos = read_undo(path)
    with ConsoleProgress() as progress:
        n_restored, failures = undo_tags(store, undos, progress)
    lines = [f"restored {n_restored} of {counted(len(undos), 'file')}"]
    print_result(
        json, lambda: {"restored": n_restored, "files": len(undos), "failures": failures_json(failures)}, lines
    )
    options.exit_with_failures(failures)


def _print(
    plan: Plan,
    fields: Sequence[str],
    n_written: int | None,
    log: Path | None,
    failures: Sequence[tuple[Path, str]],
    out: Path | None,
    bom: bool,
    json: bool,
) -> None:
    rows = [_row(change) for change in plan.changes]
    if out is not None:
        from mirembed.library.file_tagging import write_changes

        write_changes(out, plan.changes, bom=bom)
        typer.echo(f"wrote {counted(len(rows), 'row')} to {out}", err=True)
    n_files = len({change.path for change in plan.changes})
    what = " or ".join(fields)
    unchanged = [
        (plan.n_kept, f"{plan.n_kept} with {what} already set"),
        (plan.n_equal, f"{plan.n_equal} with the predicted {what} already"),
        (plan.n_unsure, f"{plan.n_unsure} without a probable {what}"),
    ]
    lines = [f"{counted(n_files, 'file')} to tag" if n_written is None else f"tagged {counted(n_written, 'file')}"]
    if listed := ", ".join(text for number, text in unchanged if number):
        lines[0] += f"; unchanged: {listed}"
    if n_written is None and rows:
        lines.append("nothing was changed; add --write to write the tags")
    if log is not None and n_written:
        lines.append(f"to undo: mirembed tag --undo {shlex.quote(str(log))}")
    content: dict[str, Any] = {
        "fields": list(fields),
        "changes": [change.to_json() for change in plan.changes],
        "written": n_written,
        "undo_file": str(log) if log is not None and n_written else None,
        "kept": plan.n_kept,
        "equal": plan.n_equal,
        "hard_linked": plan.n_linked,
        "unsure": plan.n_unsure,
        "failures": failures_json(failures),
    }
    print_result(json, lambda: content, [*([Table(_COLUMNS, rows)] if rows and out is None else []), *lines])
    options.exit_with_failures(failures)


def _row(change: Change) -> list[str]:
    probabilities = ", ".join(f"{value:.2f}" for value in change.probability)
    return [shown_path(change.path), change.field, "; ".join(change.old), "; ".join(change.new), probabilities]
