"""What an extraction did, in numbers and in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from mirembed.progress import counted
from mirembed.store import Failure


@dataclass
class Summary:
    """What an extraction did, in tracks.

    Attributes
    ----------
    listed, absent : int
        What the dataset listed, and annotated tracks without audio.
    extracted, unchanged, relabeled : int
        Done now; in the store already; in the store with another label or group, which is now the listed one.
    moved : int
        In the store under another id, and known by their content; they have the listed id now.
    failures : list of Failure
        All that stand in the failures table after this run.
    failed_before : int
        Those of them that failed in an earlier run, have not changed, and so were not tried again.
    kept : int
        Those of the failures whose spectrogram from before the file changed is still in the store.
    unlisted, pruned : int
        In the store but no longer listed: kept, or removed because that was asked.
    chatter : int
        Lines that decoders wrote and that were not shown.
    damaged : list of str
        Shards that could not be read and were set aside.
    """

    listed: int
    absent: int
    extracted: int = 0
    unchanged: int = 0
    relabeled: int = 0
    moved: int = 0
    failures: list[Failure] = field(default_factory=list)
    failed_before: int = 0
    kept: int = 0
    unlisted: int = 0
    pruned: int = 0
    chatter: int = 0
    damaged: list[str] = field(default_factory=list)

    def to_json(self, dataset: str) -> dict[str, Any]:
        """Return the summary as JSON."""
        return {"dataset": dataset, **asdict(self)}

    def lines(self, dataset: str) -> list[str]:
        """Return the summary in words, saying only what happened."""
        lines = [f"{dataset}: {self._stored()}"]
        if self.absent:
            lines.append(f"{counted(self.absent, 'annotated track')} without audio here")
        if self.relabeled:
            lines.append(f"{counted(self.relabeled, 'track')} with a new label or group, not decoded again")
        if self.moved:
            lines.append(f"{counted(self.moved, 'track')} moved or renamed, not decoded again")
        if self.pruned:
            lines.append(f"{counted(self.pruned, 'track')} removed, no longer listed")
        if self.damaged:
            lines.append(f"{counted(len(self.damaged), 'damaged shard')} set aside: {', '.join(self.damaged)}")
        if self.chatter:
            lines.append(f"{counted(self.chatter, 'line')} of decoder messages silenced")
        if self.failures:
            lines.append(f"{counted(len(self.failures), 'file')} failed (their reasons are in failures.parquet):")
            lines += [f"  {failure.path}: {failure.reason}" for failure in self.failures[:10]]
            if len(self.failures) > 10:
                lines.append(f"  and {len(self.failures) - 10} more")
        if self.kept:
            lines.append(f"{counted(self.kept, 'track')} kept as before the file changed")
        if self.failed_before:
            lines.append(f"{self.failed_before} of them failed before and have not changed: --retry-failed tries again")
        return lines

    def _stored(self) -> str:
        listed = self.extracted + self.unchanged + self.kept
        if not self.unlisted:
            return f"{listed} of {counted(self.listed, 'track')} in the store, {self.extracted} of them new"
        them = "it" if self.unlisted == 1 else "them"
        return (
            f"{counted(listed + self.unlisted, 'track')} in the store, {self.extracted} of them new; {listed} of "
            f"{self.listed} listed ({self.unlisted} kept although no longer listed: --prune removes {them})"
        )
