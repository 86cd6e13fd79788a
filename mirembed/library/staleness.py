"""Find out how a library differs from the embeddings of a model, without listing the library again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from mirembed.audio.files import file_stamp, is_audio, is_hidden
from mirembed.audio.folders import FolderState, changed_folders, is_missing
from mirembed.interruption import interruptible
from mirembed.progress import counted, joined
from mirembed.store import DatasetStore
from mirembed.store.recordings import absolute

Stamp: TypeAlias = tuple[int, int]
"""Size in bytes and modification time in nanoseconds."""


@dataclass(frozen=True)
class Staleness:
    """How a library and the embeddings of a model differ.

    Attributes
    ----------
    command : str
        The command that brings the embeddings up to date.
    audio : str
        The audio folder.
    audio_missing : bool
        Whether that folder is missing or empty; nothing else is known then.
    new, changed, missing : int
        Audio files that are new, have changed or are missing since the last listing. Only folders in which a name has
        changed since then are searched.
    without_embeddings : int
        Listed tracks that the model has not embedded, except those whose files failed.
    """

    command: str
    audio: str
    audio_missing: bool = False
    new: int = 0
    changed: int = 0
    missing: int = 0
    without_embeddings: int = 0

    def notes(self) -> list[str]:
        """Return a line for each difference, with the command that resolves it."""
        if self.audio_missing:
            return [
                f"the audio folder {self.audio} is missing or empty; bring it back, or run `{self.command} --audio DIR`"
            ]
        numbers = {"new": self.new, "changed": self.changed, "missing": self.missing}
        found = [f"{number} {what}" for what, number in numbers.items() if number]
        notes = []
        if found:
            files = "file" if sum(numbers.values()) == 1 else "files"
            notes.append(f"{joined(found)} {files} in {self.audio} since the last update; run `{self.command}`")
        if self.without_embeddings:
            verb = "has" if self.without_embeddings == 1 else "have"
            tracks = counted(self.without_embeddings, "track")
            notes.append(f"{tracks} {verb} no embedding yet; run `{self.command}`")
        return notes

    def of_changed(self, files: str, number: int) -> str:
        """Return the note on files that are shown although they have changed since the last update."""
        have = "has" if number == 1 else "have"
        return f"{files} {have} changed since the last update, and may not sound as before; run `{self.command}`"


@interruptible()
def compare(dataset: DatasetStore, audio: Path, command: str, without_embeddings: Sequence[str]) -> Staleness:
    """Compare the audio folder with the last listing of a dataset.

    Parameters
    ----------
    dataset : DatasetStore
    audio : pathlib.Path
        The audio folder.
    command : str
        See `Staleness`.
    without_embeddings : sequence of str
        Ids of the listed tracks that the model has not embedded.

    Raises
    ------
    StoreError
        A table of the dataset is damaged.
    """
    if is_missing(audio):
        return Staleness(command, str(audio), audio_missing=True)
    folders = changed_folders(audio, dataset.folder_times())
    failures = dataset.failures() if folders or without_embeddings else []
    failed = {failure.id: (failure.file_size, failure.file_mtime_ns) for failure in failures}
    lacking = sum(track not in failed for track in without_embeddings)
    if not folders:
        return Staleness(command, str(audio), without_embeddings=lacking)
    changed = {absolute(audio / folder) for folder in folders}
    known = _listed_files(dataset, audio, failed)
    here = {path for path in known if path.rpartition("/")[0] in changed}
    found = _audio_in(audio, folders, dataset.folders())
    return Staleness(
        command,
        str(audio),
        new=len(found.keys() - known.keys()),
        changed=sum(stamp != known[path] for path, stamp in found.items() if path in known),
        missing=len(here - found.keys()),
        without_embeddings=lacking,
    )


def _listed_files(dataset: DatasetStore, audio: Path, failed: Mapping[str, Stamp]) -> dict[str, Stamp]:
    """Return the stamps of the files of listed tracks when they were last read, by printable path in ``audio``."""
    table = dataset.columns("id", "path", "file_size", "file_mtime_ns", "listed")
    start, real = f"{absolute(audio)}/", dict[str, str]()
    files: dict[str, Stamp] = {}
    for track, path, size, mtime, listed in zip(*(column.to_pylist() for column in table.columns), strict=True):
        if not listed:
            continue
        if not path.startswith(start):  # the folder was given by a link to it
            folder, _, name = path.rpartition("/")
            path = f"{real.setdefault(folder, os.path.realpath(folder))}/{name}"
        files[path] = failed.get(track, (size, mtime))
    return files


def _audio_in(audio: Path, folders: Sequence[str], before: Mapping[str, FolderState]) -> dict[str, Stamp]:
    """Return the audio files in some folders, and in those of their subfolders that ``before`` does not have."""
    found: dict[str, Stamp] = {}
    pending = list(folders)
    while pending:
        name = pending.pop()
        try:
            entries = sorted((audio / name).iterdir())
        except OSError:
            continue
        for path in entries:
            child = f"{name}/{path.name}" if name else path.name
            if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114 (they never raise)
                if child not in before and not is_hidden(path):
                    pending.append(child)
            elif is_audio(path):
                found[absolute(path)] = file_stamp(path)
    return found
