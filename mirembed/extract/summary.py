"""The summary of an extraction, in numbers and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mirembed.progress import counted
from mirembed.store import Failure


@dataclass
class Summary:
    """The numbers of tracks that an extraction added, kept, moved, and so on.

    Attributes
    ----------
    listed, absent : int
        Tracks that the dataset listed, and annotated tracks without audio.
    extracted, unchanged, relabeled : int
        Extracted now; already in the store; stored with another label or group, or none, and now brought up to date.
    left : int
        Without features, and left for later because of a limit.
    stored : int
        Listed tracks that the store has after this run, with some of the features that were asked for.
    having : dict of str to int
        How many of these have each features, by spec.
    known : int
        New in the dataset, but the store had their features already.
    moved : int
        In the dataset under another id, recognized by their content; they have the listed id now.
    failures : list of Failure
        All of these features that the table of failures has after this run: one for each track and features.
    new_failures : list of Failure
        Those that no earlier run has reported.
    failed_before : int
        Failures that were not tried again, because they failed in an earlier run and their files have not changed.
    kept : int
        Failures whose features from before the file changed are still in the store.
    unlisted, pruned : int
        In the store but no longer listed: kept, or removed on request.
    decoder_messages : int
        Lines that decoders wrote to the terminal and that were not shown.
    notes : dict of str to str
        Warnings about files that were read now, by path.
    damaged : list of str
        Shards that could not be read and were set aside.
    """

    listed: int
    absent: int
    extracted: int = 0
    unchanged: int = 0
    relabeled: int = 0
    left: int = 0
    stored: int = 0
    having: dict[str, int] = field(default_factory=dict)
    known: int = 0
    moved: int = 0
    failures: list[Failure] = field(default_factory=list)
    new_failures: list[Failure] = field(default_factory=list)
    failed_before: int = 0
    kept: int = 0
    unlisted: int = 0
    pruned: int = 0
    decoder_messages: int = 0
    notes: dict[str, str] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)

    @property
    def has_failures(self) -> bool:
        """Whether there are failures that are new, or that the user has not accepted."""
        return has_failures(self.new_failures, self.failures)

    def to_json(self, dataset: str) -> dict[str, Any]:
        """Return the summary as JSON, with the ids of the new failures."""
        return {"dataset": dataset, **asdict(self), "new_failures": ids_of(self.new_failures)}

    def lines(self, dataset: str) -> list[str]:
        """Return the summary in words, without the counts that are zero."""
        tracks = counted(self.listed, "track")
        lines = [f"{dataset}: {self.stored} of {tracks} in the store, {self.extracted} extracted now"]
        if self.unlisted:
            them = "it" if self.unlisted == 1 else "them"
            lines[0] += f", and {self.unlisted} no longer listed (--prune removes {them})"
        lines += [f"{spec}: {n} of {tracks}" for spec, n in self.having.items() if n < self.stored]
        changes = [
            (self.left, f"{counted(self.left, 'track')} left for later; leave out --limit to extract all"),
            (self.absent, f"{counted(self.absent, 'annotated track')} without audio"),
            (self.relabeled, f"{counted(self.relabeled, 'track')} with a new label or group, not decoded again"),
            (self.moved, f"{counted(self.moved, 'track')} moved or renamed, not decoded again"),
            (self.known, f"{counted(self.known, 'new track')} with features already in the store, not decoded again"),
            (self.pruned, f"removed {counted(self.pruned, 'unlisted track')}"),
            (self.damaged, f"set aside {counted(len(self.damaged), 'damaged shard')}: {', '.join(self.damaged)}"),
            (self.decoder_messages, f"hid {counted(self.decoder_messages, 'line')} of decoder messages"),
        ]
        lines += [line for happened, line in changes if happened]
        lines += file_lines(self.notes, self.new_failures, self.failures)
        if self.kept:
            lines.append(f"kept the earlier features of {counted(self.kept, 'failed file')}")
        return lines


_SHOWN = 10
"""Files with a reason to print; the others are counted."""


def has_failures(new: Sequence[Failure], failures: Sequence[Failure]) -> bool:
    """Whether a command ends with exit code 2: some failures are new, or the user has not accepted them."""
    return bool(new) or not all(failure.accepted for failure in failures)


def ids_of(failures: Sequence[Failure]) -> list[str]:
    """Return the ids of the tracks that failed, each once."""
    return list(dict.fromkeys(failure.id for failure in failures))


def file_lines(notes: Mapping[str, str], new: Sequence[Failure], failures: Sequence[Failure]) -> list[str]:
    """Return lines about single files: those that were read with a warning, by path, and those that failed.

    New failures are listed; the others are counted.
    """
    reasons = list(dict.fromkeys((failure.path, failure.reason) for failure in new))
    paths = {path for path, _ in reasons}
    lines = []
    for header, found in (
        (f"{counted(len(notes), 'file')} read with a warning:", list(notes.items())),
        (f"{counted(len(paths), 'file')} failed (failures.parquet has all reasons):", reasons),
    ):
        if found:
            lines += [header, *(f"  {path}: {text}" for path, text in found[:_SHOWN])]
            lines += [f"  and {len(found) - _SHOWN} more"] * (len(found) > _SHOWN)
    if any(failure.accepted for failure in new):
        lines.append("accepted: until they change, later runs do not end with exit code 2 because of them")
    old = [failure for failure in failures if failure.path not in paths]
    if n_old := len({failure.path for failure in old}):
        n_open = len({failure.path for failure in old if not failure.accepted})
        accepted = "" if n_open == n_old else ", accepted" if n_open == 0 else f", {n_old - n_open} of them accepted"
        advice = "; try them again with --retry-failed, or accept them with --accept-failures" if n_open else ""
        lines.append(f"{counted(n_old, 'file')} failed as before{accepted} (see mirembed store failures){advice}")
    return lines
