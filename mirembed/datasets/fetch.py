"""Fetch the archives that a dataset's card names into its audio folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import SplitResult, unquote, urlsplit

from mirembed.datasets.download import RetryPolicy, checksum_of, disk_errors, download, elsewhere, parse_checksum
from mirembed.datasets.unpack import is_archive, unpack
from mirembed.errors import DatasetError, PluginError, SpecError
from mirembed.hookspecs import Archive, Card
from mirembed.interruption import interruptible
from mirembed.progress import NO_PROGRESS, Progress, counted
from mirembed.store.files import exclusive, write_json


@dataclass(frozen=True)
class FetchOptions:
    """Choices of the user that override the card.

    Attributes
    ----------
    archive : str or None
        Fetch only the archive with this file name.
    urls : sequence of str
        URLs or local files to use instead of the host. Each replaces the archive with the same file name, or the only
        one.
    checksum : str or None
        Expected checksum of the only archive, or of the only one of ``urls``.
    max_bytes : float or None
        Largest size of an archive's content. None: in proportion to the size of the archive.
    """

    archive: str | None = None
    urls: Sequence[str] = ()
    checksum: str | None = None
    max_bytes: float | None = None


@dataclass(frozen=True)
class Fetched:
    """An archive whose content is in the audio folder.

    Attributes
    ----------
    name : str
        File name of the archive.
    checksum : str
    n_files : int
    before : bool
        Whether the content was already there.
    """

    name: str
    checksum: str
    n_files: int
    before: bool


@dataclass(frozen=True)
class _Job:
    """An archive to fetch: its source (a URL or a local file), its checksum, and where its content goes."""

    name: str
    source: str | Path
    checksum: str
    folder: Path

    @property
    def marker(self) -> Path:
        return self.folder / f".{self.name}.fetched"


def fetch(
    name: str,
    card: Card | None,
    audio: Path,
    options: FetchOptions | None = None,
    progress: Progress = NO_PROGRESS,
    policy: RetryPolicy | None = None,
) -> list[Fetched]:
    """Download, verify and unpack the archives that a dataset's card names, one after the other.

    Interrupted downloads are resumed, and content that is already there is not fetched again. Archives are kept beside
    their content.

    Parameters
    ----------
    name : str
        Name of the dataset, for messages.
    card : Card or None
        None, for a dataset without a card, is an error.
    audio : pathlib.Path
        The audio folder; created if it does not exist.
    options : FetchOptions, optional
    progress : Progress
    policy : RetryPolicy, optional

    Raises
    ------
    DatasetError
        If the dataset has no archives, or one cannot be downloaded, has another checksum, is not safe to unpack or
        would overwrite something.
    PluginError
        If two archives of the card have the same file name.
    SpecError
        If an option does not fit the dataset.
    StoreBusyError
        If another process is fetching into the same folder.
    StoreWriteError
        If the disk is full or the folder is not writable.
    """
    options, policy = options or FetchOptions(), policy or RetryPolicy()
    if card is None or not card.archives:
        source = f"source: {card.source}" if card is not None and card.source else "get its files yourself"
        raise DatasetError(f"dataset {name} has no archives to fetch; {source}")
    jobs = _plan(name, card.archives, audio, options)
    for note in (card.title, f"license: {card.license}", f"source: {card.source}", f"please cite:\n{card.citation}"):
        progress.note(note)
    with disk_errors(audio):
        audio.mkdir(parents=True, exist_ok=True)
    with exclusive(audio, f"another process is fetching into {audio}; wait until it has finished"):
        return [_fetch_archive(job, options.max_bytes, progress, policy) for job in jobs]


def _plan(name: str, archives: Sequence[Archive], audio: Path, options: FetchOptions) -> list[_Job]:
    by_name = {_file_name(archive.url): archive for archive in archives}
    if len(by_name) < len(archives):
        raise PluginError(
            f"dataset {name} has two archives with the same file name; report it to that plugin's authors"
        )
    chosen = [file for file in by_name if options.archive in (None, file)]
    if not chosen:
        raise SpecError(f"dataset {name} has no archive {options.archive!r}; it has {', '.join(by_name)}")
    sources: dict[str, str] = {}
    for text in options.urls:
        file = chosen[0] if len(chosen) == 1 else _file_name(text)
        if file not in chosen:
            raise SpecError(f"--url {text} has the name of none of {', '.join(chosen)}; choose one with --archive FILE")
        if file in sources:
            raise SpecError(f"--url {sources[file]} and --url {text} replace the same archive, {file}; give one")
        sources[file] = text
    replaced = list(sources) or chosen
    if options.checksum is not None and len(replaced) > 1:
        raise SpecError(f"--checksum applies to one archive, not to {', '.join(replaced)}; choose one with --archive")
    return [
        _Job(
            file,
            _source(sources.get(file, by_name[file].url)),
            parse_checksum(options.checksum if options.checksum and file in replaced else by_name[file].checksum),
            audio / by_name[file].folder,
        )
        for file in chosen
    ]


def _file_name(text: str) -> str:
    """Return what follows the last slash of a URL or a path."""
    return PurePosixPath(unquote(_parse_url(text).path) if "://" in text else text).name


def _source(text: str) -> str | Path:
    """Return a URL as a string, and a local file as a path."""
    if "://" in text:
        return _parse_url(text).geturl()
    if not Path(text).is_file():
        raise SpecError(f"{text} is neither a file nor a URL; give http://..., https://... or a path")
    return Path(text)


def _parse_url(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    except ValueError:  # such as http://[ or http://host:port
        pass
    raise SpecError(f"{text} cannot be downloaded; give http://..., https://... or the path of a file")


def _fetch_archive(job: _Job, max_bytes: float | None, progress: Progress, policy: RetryPolicy) -> Fetched:
    files = _unpacked_before(job)
    before = files is not None
    if files is None:
        with disk_errors(job.folder):
            job.folder.mkdir(parents=True, exist_ok=True)
        copy = _verified_copy(job, progress, policy)
        files = unpack(copy, job.name, job.folder, max_bytes, progress)
        write_json(job.marker, {"checksum": job.checksum, "files": files})
        if copy == job.folder / job.name and is_archive(job.name):
            progress.note(f"{copy} is no longer needed; keep it in case its host disappears, or delete it")
    progress.note(f"{job.name}: {counted(len(files), 'file')} {'already ' if before else ''}in {job.folder}")
    return Fetched(job.name, job.checksum, len(files), before)


@interruptible()
def _unpacked_before(job: _Job) -> dict[str, int] | None:
    """Return the files of an archive that was unpacked before, if all of them are still there."""
    try:
        content = json.loads(job.marker.read_text(encoding="utf-8"))
        files: dict[str, int] = content["files"]
        here = all((job.folder / path).stat().st_size == size for path, size in files.items())
        return files if here and content["checksum"] == job.checksum else None
    # Whatever is wrong with the marker or the files, fetching again repairs it.
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _verified_copy(job: _Job, progress: Progress, policy: RetryPolicy) -> Path:
    """Return a file with the right checksum: the given one, one that is already there, or a new download."""
    target = job.folder / job.name
    if isinstance(job.source, str) and not target.exists():
        download(job.source, target, job.checksum, progress, policy)
        return target
    copy = job.source if isinstance(job.source, Path) else target
    found = checksum_of(copy, job.checksum, progress)
    if found == job.checksum:
        return copy
    raise DatasetError(
        f"{copy} has {found}, expected {job.checksum}; it was not unpacked\n"
        + (
            f"{elsewhere(job.checksum)}; if you trust this one: --url {copy} --checksum {found}"
            if copy is job.source
            else "move it out of the way and run the same command again to download it"
        )
    )
