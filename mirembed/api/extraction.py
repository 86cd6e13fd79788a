"""`mirembed.extract`: the command ``mirembed extract`` as a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mirembed.api.progress import RESUMES, reporting
from mirembed.api.tables import facts_html
from mirembed.api.words import PathLike, StoreLike, dataset_of, discover, number_of, path_of, plain, store_of, text_of
from mirembed.errors import MirembedError, SpecError
from mirembed.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

    from mirembed.extract import Summary


@dataclass(frozen=True)
class Extraction:
    """What an extraction did.

    Attributes
    ----------
    dataset : str
        As ``fit`` and ``evaluate`` take it.
    store : pathlib.Path
    summary : Summary
        Numbers of tracks that were extracted now, were in the store already, failed, and so on.
    """

    dataset: str
    store: Path
    summary: Summary

    @property
    def tracks(self) -> pa.Table:
        """The tracks of the dataset; see `mirembed.Store.tracks`."""
        from mirembed.api.store import Store

        return Store(self.store).tracks(self.dataset)

    @property
    def failures(self) -> pa.Table:
        """The files that failed, with the reasons: id, path, features, reason, retry."""
        import pyarrow as pa

        names = ("id", "path", "features", "reason", "retry")
        rows = [{name: getattr(one, name) for name in names} for one in self.summary.failures]
        return pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in names]))

    def __repr__(self) -> str:
        return "\n".join(self.summary.lines(self.dataset))

    def _repr_html_(self) -> str:
        first, *others = self.summary.lines(self.dataset)
        return facts_html([("extracted", first), *(("", line) for line in others)])


def extract(
    dataset: str | None = None,
    *,
    audio: PathLike | None = None,
    store: StoreLike = None,
    features: str | Sequence[str] | None = None,
    limit: int | None = None,
    jobs: int | None = None,
    executor: str = "local",
    scheduler: str | None = None,
    backend: str = "auto",
    timeout: float | None = None,
    max_failures: int | str | None = None,
    retry_failed: bool = False,
    accept_failures: bool | None = None,
    prune: bool = False,
    yes: bool | Callable[[str], None] = False,
    progress: bool | Progress = True,
) -> Extraction:
    """Compute the features of a dataset and save them in the store.

    Computes only what is missing or has changed. If interrupted, the same call resumes.

    Parameters
    ----------
    dataset : str, optional
        ``NAME`` or ``NAME:PARAM=VALUE``. Default: the only one in the store; ``demo`` if the store is empty.
    audio : path, optional
        The dataset's audio folder. Default: the folder used before; the demo synthesizes its own.
    store : path or Store, optional
        Default: the environment variable MIREMBED_STORE, or else ``mirembed-store`` in the current folder.
    features : str or sequence of str, optional
        ``"logmel:bands=80"``; ``"A+B"`` computes both. Default: those of the last extraction of the dataset;
        if there is none, ``logmel``.
    limit : int, optional
        Extract at most this many tracks, counting those already extracted.
    jobs : int, optional
        Worker processes. Default: one per core.
    executor : {"local", "dask"}
        Where the work runs; ``dask`` needs a ``scheduler``.
    scheduler : str, optional
        Address of a Dask scheduler, such as ``"tcp://HOST:8786"``.
    backend : {"auto", "essentia", "scipy"}
        Library that computes the spectra; the results are interchangeable.
    timeout : float, optional
        Seconds that a file may take. Default: 5 minutes plus 1 second per megabyte, at most 1 hour.
    max_failures : int or str, optional
        Stop if more files than this fail: a number, or a share such as ``"5%"``.
    retry_failed : bool
        Retry files that failed before.
    accept_failures : bool, optional
        True: accept the files that fail until they change; False: undo this. Default: neither.
    prune : bool
        Remove tracks from the store that the dataset no longer lists.
    yes : bool or callable
        Whether ``prune`` may remove more than a tenth of the tracks. A callable gets a sentence that says what would be
        removed, and raises an exception to prevent it.
    progress : bool
        Show a line of text.

    Returns
    -------
    Extraction
        Files that fail raise no exception: see its ``failures``.

    Raises
    ------
    MirembedError
        An argument is invalid, the audio folder is missing, or the store cannot be written.
    """
    from mirembed.audio.folders import read_folders
    from mirembed.datasets.catalog import audio_folder, list_dataset
    from mirembed.extract import ExtractOptions, MaxFailures, features_to_extract
    from mirembed.extract import extract as run
    from mirembed.features.compute import create_features, unmatched_notes
    from mirembed.features.info import distinct_parts
    from mirembed.store.file_tags import KnownFileTags
    from mirembed.workers import available_jobs
    from mirembed.workers.executor import executor as on_executor

    most_failures = None if max_failures is None else MaxFailures.parse(str(plain(max_failures)))
    wanted_features = [features] if isinstance(features, str) else list(features or [])
    workers, most = number_of("jobs", jobs), number_of("limit", limit)
    seconds = number_of("timeout", timeout, whole=False)
    folder = None if audio is None else path_of("audio", audio)
    if not isinstance(accept_failures, bool | None):
        raise SpecError(f"--accept-failures is {accept_failures!r}: expected True, False or None")

    def confirm(what: str) -> None:
        if callable(yes):
            yes(what)
        elif not yes:
            raise MirembedError(f"nothing was removed: give --yes to {what}")

    with reporting(progress, RESUMES) as reported, on_executor(executor, scheduler, workers):
        registry, place = discover(reported.note), store_of(store, writable=True)
        spec = dataset_of(dataset) or place.only_spec()
        features_infos = features_to_extract(
            registry, place.dataset(spec), [text_of("features", one) for one in wanted_features]
        )
        parts = distinct_parts(features_infos)
        if backend != "auto":  # otherwise each worker finds out for itself
            for part in parts:
                create_features(registry, part, backend)
        file_tags = KnownFileTags(place)
        folder = audio_folder(registry, spec, folder, place, reported, file_tags)
        folders = read_folders(folder)  # before the files, so that what changes in the meantime is found later
        listing, _ = list_dataset(registry, spec, folder, place, reported, file_tags)
        for note in unmatched_notes(registry, parts, listing.tracks):
            reported.note(note)
        place.create()
        summary = run(
            place,
            listing,
            spec=str(spec),
            plugin=registry.provenance("dataset", spec),
            audio=folder,
            features=features_infos,
            jobs=workers or available_jobs(),
            limit=most,
            retry_failed=retry_failed,
            accept_failures=accept_failures,
            prune=prune,
            confirm=confirm,
            options=ExtractOptions(backend, seconds),
            max_failures=most_failures,
            progress=reported,
            file_tags=file_tags,
            folders=folders,
        )
    return Extraction(str(spec), place.root, summary)
