"""``mirembed tag``: write predictions into the file tags of audio files, and undo that."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mirembed.audio.files import audio_files, printable
from mirembed.cli import options
from mirembed.cli.output import ConsoleProgress, Table, print_result
from mirembed.errors import SpecError
from mirembed.interruption import RESUMES, interruptible, say_when_interrupted
from mirembed.progress import counted
from mirembed.specs import Spec
from mirembed.store import Store

if TYPE_CHECKING:
    from mirembed.library.file_tagging import Change, Existing, Plan
    from mirembed.models.inference import EmbeddedFiles
    from mirembed.models.model import Model
    from mirembed.registry import Registry

_COLUMNS = ("path", "field", "old", "new", "probability")


def tag(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Model: a folder, or a name in the store.", show_default=False)
    ] = None,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...", help="Audio files, or folders of them. Default: the whole library.", show_default=False
        ),
    ] = None,
    dataset: options.Library = None,
    field: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Field to write: genre (the default), mood, or another name. Targets have a field each, by their "
            "names.",
        ),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            metavar="P", help="Write only classes or tags of at least this probability, from 0 to 1. Default: 0.7."
        ),
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Add to the values that a file has in the field.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the values that a file has.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write the tags. Without it, nothing is changed.")] = False,
    undo_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Undo file to write. Default: beside the store, with the date."),
    ] = None,
    undo: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Restore the files that an undo file names.", show_default=False)
    ] = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    out: options.Out = None,
    force: options.Force = False,
    bom: options.Bom = False,
    jobs: options.Jobs = None,
    json: options.Json = False,
) -> None:
    """Write what a model predicts into the files' own tags: genres, moods or targets.

    Without --write, this only lists what would change. Files that have a value keep it, unless you give --add or
    --overwrite. Before a file is touched, the undo file says what it was; --undo FILE restores it.
    """
    with interruptible():
        from mirembed.library.file_tagging import choose_fields, learns_from, plan_tags, remove_unfinished
        from mirembed.models.inference import check_table
        from mirembed.models.model import Model
        from mirembed.models.saved import find_model

    place = Store(store)
    if undo is not None:
        _undo(place, undo, json)
    if model is None:
        raise SpecError("give a MODEL whose predictions to write, or --undo FILE")
    if add and overwrite:
        raise SpecError("--add keeps the values of a file and --overwrite replaces them; give one of them")
    say_when_interrupted(RESUMES)
    check_table(out, force=force, bom=bom)
    registry = options.discover()
    existing: Existing = "add" if add else "replace" if overwrite else "keep"
    with ConsoleProgress() as progress:
        with interruptible():
            loaded = Model.load(find_model(place.models, model), registry)
        fields = choose_fields(loaded, field)
        files = _files(loaded, registry, place, model, paths or [], dataset, options.jobs_or_cores(jobs), progress)
        plan = plan_tags(loaded, files, fields, min_score=min_score, existing=existing, progress=progress)
        if loaded.has_probabilities and loaded.calibration is None:
            progress.note("warning: these probabilities are the network's own outputs, which are not calibrated")
        log, n_written, failures = None, 0, list(plan.failures)
        if write:
            remove_unfinished(files.paths)
        if write and plan.changes:
            log = undo_file or _new_undo_file(store)
            n_written, failed = _write(place, plan.changes, log, progress)
            failures += failed
            if learns_from(loaded, fields):
                progress.note("note: a model that you fit to these file tags from now on learns from these predictions")
    _print(plan, fields, n_written if write else None, log, failures, out, bom, json)


def _files(
    model: Model,
    registry: Registry,
    store: Store,
    name: str,
    paths: Sequence[Path],
    dataset: Spec | None,
    jobs: int,
    progress: ConsoleProgress,
) -> EmbeddedFiles:
    """Return the embeddings of the given files, or of the whole library."""
    from mirembed.library.neighbors import open_present
    from mirembed.models.inference import EmbeddedFiles, embed_files

    if paths:
        found, notes = audio_files(paths)
        for note in notes:
            progress.note(note)
        return embed_files(model, found, registry, store, jobs, progress)
    library = open_present(store, registry, name, dataset, progress)
    rows = [row for row in range(len(library)) if library.is_unchanged(row)]
    if len(rows) < len(library):
        n_left = counted(len(library) - len(rows), "file")
        progress.note(f"left out {n_left}: gone or changed since the last update; run `mirembed update`")
    recordings = [library.recordings[row] for row in rows]
    return EmbeddedFiles([library.path(row) for row in rows], recordings, library.vectors[rows], [])


def _write(
    store: Store, changes: Sequence[Change], path: Path, progress: ConsoleProgress
) -> tuple[int, list[tuple[Path, str]]]:
    from mirembed.library.file_tagging import write_tags
    from mirembed.library.undo import undo_log

    with undo_log(path, options.command_line()) as log:
        return write_tags(store, changes, log, progress)


def _new_undo_file(store: Path) -> Path:
    """Return a name beside the store that is free, also for the second command of one second."""
    stem = f"{store.absolute().name}-undo-{time.strftime('%Y%m%d-%H%M%S')}"
    names = (f"{stem}{more}.jsonl" for more in ("", *(f"-{number}" for number in range(2, 1000))))
    return next(path for name in names if not (path := store.with_name(name)).exists())


def _undo(store: Store, path: Path, json: bool) -> None:
    from mirembed.library.file_tagging import undo_tags
    from mirembed.library.undo import read_undo

    say_when_interrupted(RESUMES)
    undos = read_undo(path)
    with ConsoleProgress() as progress:
        n_restored, failures = undo_tags(store, undos, progress)
    shown = _failures(failures)
    lines = [f"restored {counted(n_restored, 'file')} of {len(undos)}"]
    print_result(json, lambda: {"restored": n_restored, "files": len(undos), "failures": shown}, lines)
    _exit(shown)


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
    counts = [
        f"{counted(n_files, 'file')} to tag" if n_written is None else f"tagged {counted(n_written, 'file')}",
        *([f"{plan.n_kept} kept their {' or '.join(fields)}"] if plan.n_kept else []),
        *([f"{plan.n_equal} have it already"] if plan.n_equal else []),
        *([f"{plan.n_unsure} without a probable one"] if plan.n_unsure else []),
    ]
    lines = [", ".join(counts)]
    if n_written is None and rows:
        lines.append("nothing was changed; --write writes the tags")
    if log is not None and n_written:
        lines.append(f"to undo: mirembed tag --undo {log}")
    shown = _failures(failures)
    content: dict[str, Any] = {
        "fields": list(fields),
        "changes": [change.to_json() for change in plan.changes],
        "written": n_written,
        "undo_file": str(log) if log is not None and n_written else None,
        "kept": plan.n_kept,
        "equal": plan.n_equal,
        "unsure": plan.n_unsure,
        "failures": shown,
    }
    print_result(json, lambda: content, [*([Table(_COLUMNS, rows)] if rows and out is None else []), *lines])
    _exit(shown)


def _row(change: Change) -> list[str]:
    probabilities = ", ".join(f"{value:.2f}" for value in change.probabilities)
    return [printable(change.path), change.field, "; ".join(change.old), "; ".join(change.new), probabilities]


def _failures(failures: Sequence[tuple[Path, str]]) -> list[dict[str, str]]:
    return [{"path": printable(path), "reason": reason} for path, reason in failures]


def _exit(failures: Sequence[dict[str, str]]) -> None:
    for failure in failures:
        typer.echo(f"failed: {failure['path']}: {failure['reason']}", err=True)
    raise typer.Exit(2 if failures else 0)
