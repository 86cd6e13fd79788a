"""From a dataset's card to its audio folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import SplitResult, unquote, urlsplit

from mirembed.datasets.download import Patience, download, elsewhere
from mirembed.datasets.fetch_files import Checksum, disk_errors
from mirembed.datasets.unpack import is_archive, unpack
from mirembed.errors import DatasetError, PluginError, SpecError, StoreBusyError
from mirembed.hookspecs import Archive, Card
from mirembed.progress import Progress, Silent
from mirembed.store.files import write_json


@dataclass(frozen=True)
class Wishes:
    """What may be other than the card says.

    Attributes
    ----------
    archive : str or None
        Fetch only the archive with this file name.
    urls : sequence of str
        Addresses or local files that take the place of the host. Each stands for the archive of the same file name,
        or for the only one.
    checksum : str or None
        Expect this one, of the only archive or of the only one of ``urls``.
    max_bytes : float or None
        How much an archive may unpack to; None: in proportion to its size.
    """

    archive: str | None = None
    urls: Sequence[str] = ()
    checksum: str | None = None
    max_bytes: float | None = None


@dataclass(frozen=True)
class Fetched:
    """An archive whose content is in place.

    Attributes
    ----------
    name : str
        The file name of the archive.
    checksum : str
    n_files : int
    before : bool
        It was in place already, and nothing was done.
    """

    name: str
    checksum: str
    n_files: int
    before: bool


@dataclass(frozen=True)
class _Job:
    """One archive: where it comes from (an address, or a local file), what it must be, where its content goes."""

    name: str
    source: str | Path
    checksum: Checksum
    folder: Path

    @property
    def marker(self) -> Path:
        return self.folder / f".{self.name}.fetched"


def fetch(
    name: str,
    card: Card | None,
    audio: Path,
    wishes: Wishes | None = None,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> list[Fetched]:
    """Download, check and unpack the archives that a dataset's card names, one after the other.

    What was interrupted is continued, and what is in place is not fetched again. Archives stay beside their content.

    Parameters
    ----------
    name : str
        The dataset, for messages.
    card : Card or None
        None: the dataset has none, which is an error here.
    audio : pathlib.Path
        The audio folder; made if it does not exist.
    wishes : Wishes, optional
    progress : Progress, optional
    patience : Patience, optional

    Raises
    ------
    DatasetError
        If nothing can be fetched for this dataset, or an archive cannot be had, is not the expected one, is not safe
        to unpack, or would overwrite something.
    PluginError
        If the card names two archives alike.
    SpecError
        If a wish cannot be understood.
    StoreBusyError
        If another process fetches into the same folder.
    StoreWriteError
        If the disk is full or the folder cannot be written.
    """
    wishes, progress, patience = wishes or Wishes(), progress or Silent(), patience or Patience()
    if card is None or not card.archives:
        where = f": {card.source}" if card is not None else ""
        raise DatasetError(f"dataset {name} names no archive that could be fetched; get it yourself{where}")
    jobs = _plan(name, card.archives, audio, wishes)
    for note in (card.title, f"license: {card.license}", f"source: {card.source}", f"please cite:\n{card.citation}"):
        progress.note(note)
    with _locked(audio):
        return [_carry_out(job, wishes.max_bytes, progress, patience) for job in jobs]


def _plan(name: str, archives: Sequence[Archive], audio: Path, wishes: Wishes) -> list[_Job]:
    named = {_file_name(archive.url): archive for archive in archives}
    if len(named) < len(archives):
        raise PluginError(f"dataset {name} names two archives alike; report it to that plugin's authors")
    chosen = [file for file in named if wishes.archive in (None, file)]
    if not chosen:
        raise SpecError(f"dataset {name} has no archive {wishes.archive!r}; it has {', '.join(named)}")
    sources = {_replaced(text, chosen): text for text in wishes.urls}
    if len(sources) < len(wishes.urls):
        raise SpecError(f"two of --url {', '.join(wishes.urls)} stand for the same archive; give one")
    changed = list(sources) or chosen
    if wishes.checksum is not None and len(changed) > 1:
        raise SpecError(f"--checksum is for one archive, not for {', '.join(changed)}; choose one with --archive")
    return [
        _Job(
            file,
            _source(sources.get(file, named[file].url)),
            Checksum.parse(wishes.checksum if wishes.checksum and file in changed else named[file].checksum),
            audio / named[file].folder,
        )
        for file in chosen
    ]


def _replaced(text: str, chosen: Sequence[str]) -> str:
    """Return the file name of the archive that ``--url text`` stands for."""
    if len(chosen) == 1:
        return chosen[0]
    if _file_name(text) in chosen:
        return _file_name(text)
    raise SpecError(f"--url {text} may be any of {', '.join(chosen)}; say which with --archive FILE")


def _file_name(text: str) -> str:
    """Return what is after the last slash of an address or a path."""
    return PurePosixPath(unquote(_address(text).path) if "://" in text else text).name


def _source(text: str) -> str | Path:
    """Tell addresses from local files."""
    if "://" in text:
        return _address(text).geturl()
    if not Path(text).is_file():
        raise SpecError(f"{text} is neither a file nor an address; write http://..., https://... or a path")
    return Path(text)


def _address(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    except ValueError:  # such as http://[ or http://host:port
        pass
    raise SpecError(f"{text} cannot be downloaded; write http://..., https://... or the path of a file")


@contextlib.contextmanager
def _locked(audio: Path) -> Iterator[None]:
    """Keep other processes from fetching into the same folder."""
    from filelock import FileLock, Timeout

    lock = FileLock(audio / ".fetch.lock", timeout=0)
    with disk_errors(audio):
        audio.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise StoreBusyError(f"another process fetches into {audio}; wait until it ends") from None
    try:
        yield
    finally:
        lock.release()


def _carry_out(job: _Job, max_bytes: float | None, progress: Progress, patience: Patience) -> Fetched:
    files = _in_place(job)
    if files is not None:
        progress.note(f"{job.name}: its {len(files)} files are in {job.folder} already")
        return Fetched(job.name, str(job.checksum), len(files), before=True)
    with disk_errors(job.folder):
        job.folder.mkdir(parents=True, exist_ok=True)
    copy = _copy_of(job, progress, patience)
    files = unpack(copy, job.name, job.folder, max_bytes, progress)
    write_json(job.marker, {"checksum": str(job.checksum), "files": files})
    progress.note(f"{job.name}: {len(files)} files in {job.folder}")
    if copy == job.folder / job.name and is_archive(job.name):
        progress.note(f"{copy} is not needed any more; keep it for the day when its host is gone, or delete it")
    return Fetched(job.name, str(job.checksum), len(files), before=False)


def _in_place(job: _Job) -> dict[str, int] | None:
    """Return the files of an archive that was unpacked before, if all of them are still there."""
    try:
        content = json.loads(job.marker.read_text(encoding="utf-8"))
        files: dict[str, int] = content["files"]
        here = all((job.folder / path).stat().st_size == size for path, size in files.items())
        return files if here and content["checksum"] == str(job.checksum) else None
    # Whatever is wrong with the marker or the files, fetching again mends it.
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _copy_of(job: _Job, progress: Progress, patience: Patience) -> Path:
    """Return a file with the right checksum: the one that was given, one that is here already, or a new download."""
    target = job.folder / job.name
    if isinstance(job.source, str) and not target.exists():
        download(job.source, target, job.checksum, progress, patience)
        return target
    copy = job.source if isinstance(job.source, Path) else target
    found = job.checksum.of(copy, progress)
    if found == job.checksum:
        return copy
    raise DatasetError(
        f"{copy} has {found}, expected {job.checksum}; it was not unpacked\n"
        + (
            f"{elsewhere(job.checksum)}; if you trust this one: --url {copy} --checksum {found}"
            if copy is job.source
            else "move it away, and the same command downloads it anew"
        )
    )
