"""The failures of a dataset: which of them no run has reported yet, and which the user has accepted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from mirembed.audio.files import file_stamp, printable
from mirembed.audio.folders import is_missing
from mirembed.errors import DatasetError
from mirembed.extract.file_features import FileToExtract
from mirembed.store import Failure


class Failures:
    """The failures of a dataset, one for each track and features; iterates over them by track.

    An unchanged file that fails again for the same reason stays accepted if it was, and is not reported again.

    Parameters
    ----------
    before : iterable of Failure
    """

    def __init__(self, before: Iterable[Failure] = ()) -> None:
        self._all = {(one.id, one.features): one for one in before}

    def __iter__(self) -> Iterator[Failure]:
        return (self._all[key] for key in sorted(self._all))

    def add(self, failure: Failure) -> None:
        """Add a failure, in place of any other of the same track and features."""
        before = self._all.get((failure.id, failure.features))
        if before is not None and failure.repeats(before):
            failure = replace(failure, reported=before.reported, accepted=before.accepted)
        self._all[failure.id, failure.features] = failure

    def discard(self, track: str, features: str) -> None:
        """Forget that a track lacks features."""
        self._all.pop((track, features), None)

    def are_accepted(self, tracks: Iterable[str], features: Iterable[str]) -> bool:
        """Whether all failures of some tracks and features are accepted."""
        names = list(features)
        return all(self._all[track, name].accepted for track in tracks for name in names)

    def report(self, features: Collection[str], accept: bool | None = None) -> list[Failure]:
        """Return the failures that no run has reported; from now on they count as reported.

        Parameters
        ----------
        features : collection of str
            Names of the features whose failures are reported.
        accept : bool, optional
            Whether to accept all of their failures, or to take that back; default: neither.
        """
        asked = {key: one for key, one in sorted(self._all.items()) if one.features in features}
        for key, one in asked.items():
            self._all[key] = replace(one, reported=True, accepted=one.accepted if accept is None else accept)
        return [self._all[key] for key, one in asked.items() if not one.reported]


def failures_of(file: FileToExtract, reasons: Mapping[str, str], audio: Path) -> list[Failure]:
    """Return the failures of all tracks of a file, for each of the features by whose names there is a reason.

    Raises
    ------
    DatasetError
        The file is gone, and with it everything in the audio folder.
    """
    size, mtime = file_stamp(file.path)
    if size < 0 and is_missing(audio):
        raise DatasetError(
            f"the audio folder {audio} has vanished; bring it back and run the same command again: "
            "what has been extracted is kept"
        )
    retry = (
        "repair or replace the file and run the same command again, or try it as it is with --retry-failed, "
        "with a larger --timeout if it took too long"
    )
    return [
        Failure(track, printable(file.path), name, reason, retry, size, mtime)
        for track in file.ids
        for name, reason in reasons.items()
    ]
