"""``mirembed duplicates``: list the files of a library that contain the same recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from mirembed.cli import options
from mirembed.cli.output import ConsoleProgress, Table, print_result, shown_path
from mirembed.interruption import RESUMES, interruptible, say_when_interrupted
from mirembed.progress import counted, size
from mirembed.store import Store

if TYPE_CHECKING:
    from mirembed.library.duplicates import DuplicateFile

_COLUMNS = ("group", "path", "match", "duration", "format", "size")


def duplicates(
    model: options.ModelName,
    dataset: options.Library = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    out: options.Out = None,
    force: options.Force = False,
    bom: options.Bom = False,
    jobs: options.Jobs = None,
    json: options.Json = False,
) -> None:
    """List the files of a library that contain the same recording: copies, other formats, trimmed versions.

    Nothing is deleted.
    Files that may be copies are decoded once; the store keeps their fingerprints.
    """
    options.check_out(out, force=force, bom=bom)
    with interruptible():
        from mirembed.library.duplicates import find_duplicates, write_duplicates
        from mirembed.library.neighbors import open_present

    say_when_interrupted(RESUMES)
    with ConsoleProgress() as progress:
        collection = open_present(Store(store), options.discover(), model, dataset, progress)
        found = find_duplicates(collection, options.jobs_or_cores(jobs), progress)
        for note in found.notes():
            progress.note(note)
    if out is not None:
        write_duplicates(out, found.files, bom=bom)
        typer.echo(f"wrote {counted(len(found.files), 'row')} to {out}", err=True)
    rows = [
        (
            f.group,
            shown_path(f.path),
            _match(f),
            "" if f.duration is None else f"{f.duration:.0f}",
            _format(f),
            size(f.size),
        )
        for f in found.files
    ]
    names = {"dataset": collection.spec, "model": collection.model}
    summary = f"no copies among {counted(found.n_tracks, 'file')}"
    if found.files:
        summary = f"{counted(found.n_groups, 'recording')} with copies, {counted(len(found.files), 'file')} in all"
        summary += f"; keeping only the largest file of each would free {size(found.extra_bytes)}"
    print_result(
        json,
        lambda: {**names, **found.to_json()},
        [*([Table(_COLUMNS, rows)] if rows and out is None else []), summary],
    )
    options.exit_with_failures(found.failures)


def _match(file: DuplicateFile) -> str:
    return f"{100 * file.agreement:.0f} %" if file.match == "fingerprint" else file.match


def _format(file: DuplicateFile) -> str:
    return file.format if file.bit_rate is None else f"{file.format}, {file.bit_rate} kbit/s"
