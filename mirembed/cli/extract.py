"""``mirembed extract``."""

from __future__ import annotations

from typing import Annotated

import typer

from mirembed.cli import options
from mirembed.cli.output import ConsoleProgress, EventProgress, confirm, print_event
from mirembed.config import defaults
from mirembed.interruption import RESUMES, say_when_interrupted


def extract(
    dataset: options.Dataset = None,
    audio: options.AudioFolder = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    features: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC",
            help="Features, such as logmel:bands=80; A+B computes both; repeatable. Default: those that the dataset "
            f"was extracted with before; if there are none, {defaults.FEATURES}.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Extract at most N tracks, counting those already extracted: labeled tracks first, evenly over "
            "classes, tags or folders. The choice is always the same. The other tracks are left for later.",
        ),
    ] = None,
    jobs: options.Jobs = None,
    executor: options.Executor = "local",
    scheduler: options.Scheduler = None,
    backend: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Library that computes the spectra: essentia, scipy, or auto (the default; essentia if installed). "
            "Their results are interchangeable.",
        ),
    ] = "auto",
    timeout: options.Timeout = None,
    max_failures: Annotated[
        str | None, typer.Option(metavar="N|P%", help="Stop if more than N files, or more than P % of them, fail.")
    ] = None,
    retry_failed: options.RetryFailed = False,
    accept_failures: options.AcceptFailures = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove tracks from the store that the dataset no longer lists.")
    ] = False,
    yes: options.Yes = False,
    json: options.Json = False,
) -> None:
    """Compute the features of a dataset and save them in the store.

    Computes only what is missing or has changed.
    Recordings that the store knows are not decoded again, whatever their names.
    Exit code 2 means: done, but some files failed that you have not accepted.
    With --json, progress and result are printed as JSON, one object per line.
    """
    from mirembed.audio.folders import read_folders
    from mirembed.datasets.catalog import audio_folder, list_dataset
    from mirembed.extract import ExtractOptions, MaxFailures, features_to_extract
    from mirembed.extract import extract as run
    from mirembed.features.compute import create_features, unmatched_notes
    from mirembed.store.file_tags import KnownFileTags
    from mirembed.workers.executor import executor as on_executor

    say_when_interrupted(RESUMES)
    registry = options.discover()
    most_failures = None if max_failures is None else MaxFailures.parse(max_failures)
    place = options.writable_store(store)
    spec = dataset or place.only_spec()
    wanted = features_to_extract(registry, place.dataset(spec), features or [])
    parts = [part for one in wanted for part in one.parts]
    if backend != "auto":  # otherwise each worker finds out for itself
        for part in parts:
            create_features(registry, part, backend)
    with EventProgress() if json else ConsoleProgress() as progress, on_executor(executor, scheduler, jobs):
        file_tags = KnownFileTags(place)
        folder = audio_folder(registry, spec, audio, place, progress, file_tags)
        folders = read_folders(folder)  # before the files, so that what changes in the meantime is found later
        listing, _ = list_dataset(registry, spec, folder, place, progress, file_tags)
        for note in unmatched_notes(registry, parts, listing.tracks):
            progress.note(note)
        place.create()
        summary = run(
            place,
            listing,
            spec=str(spec),
            plugin=registry.provenance("dataset", spec),
            audio=folder,
            features=wanted,
            jobs=options.jobs_or_cores(jobs),
            limit=limit,
            retry_failed=retry_failed,
            accept_failures=accept_failures,
            prune=prune,
            confirm=lambda what: confirm(what, yes),
            options=ExtractOptions(backend, timeout),
            max_failures=most_failures,
            progress=progress,
            file_tags=file_tags,
            folders=folders,
        )
    if json:
        print_event({"event": "done", **summary.to_json(str(spec))})
    else:
        for line in summary.lines(str(spec)):
            typer.echo(line)
    raise typer.Exit(2 if summary.has_failures else 0)
