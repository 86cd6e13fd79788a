"""A run on disk.

::

    manifest.json          everything needed to run it again, and when it began and ended
    folds.parquet          seed, id, fold: the fold in whose test part a track stands
    predictions.parquet    one row for each approach, seed and track: label and prediction, out of fold
    curves.parquet         approach, seed, fold, epoch, loss
    scores.json            what the table shows
    parts/, checkpoints/   while the run is going on: finished trainings, and those interrupted
    models/                the models of the folds, with --keep-models
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mirembed.errors import StoreError
from mirembed.store.files import exclusive, read_json, remove_leftovers, write_json


@dataclass(frozen=True)
class Run:
    """The folder of one evaluation."""

    folder: Path

    @classmethod
    def open(cls, runs: Path, name: str, configuration: Mapping[str, Any], command: str) -> Run:
        """Return the unfinished run with this configuration, or begin a new one.

        Parameters
        ----------
        runs : pathlib.Path
        name : str
            Beginning of the folder's name; date and a digest of the configuration follow.
        configuration : mapping
            All that decides the numbers.
        command : str
            As it was typed.
        """
        digest = hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()[:12]
        for folder in sorted(runs.glob(f"*-{digest}*"), reverse=True):
            if (folder / "manifest.json").exists() and not cls(folder).manifest["finished"]:
                return cls(folder)
        now = datetime.now(UTC)
        folder = runs / f"{name}-{now:%Y%m%d-%H%M%S}-{digest}"
        number = 2
        while folder.exists():
            folder = runs / f"{name}-{now:%Y%m%d-%H%M%S}-{digest}-{number}"
            number += 1
        manifest = {
            "format": 1,
            "command": command,
            "configuration": configuration,
            "started": now.isoformat(timespec="seconds"),
            "finished": None,
            "notes": [],
        }
        write_json(folder / "manifest.json", manifest)
        return cls(folder)

    @property
    def manifest(self) -> dict[str, Any]:
        """The content of ``manifest.json``."""
        content: dict[str, Any] = read_json(self.folder / "manifest.json")
        if "finished" not in content:
            raise StoreError(f"{self.folder} is not a run of mirembed")
        return content

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the only right to write.

        Raises
        ------
        StoreBusyError
            If the same evaluation is running elsewhere.
        """
        busy = f"the same evaluation is running in another process ({self.folder}); wait until it ends"
        with exclusive(self.folder, busy):
            for folder in (self.folder, self.parts, self.checkpoints):
                remove_leftovers(folder)
            yield

    @property
    def parts(self) -> Path:
        """Finished trainings of a run that is going on."""
        return self.folder / "parts"

    @property
    def checkpoints(self) -> Path:
        """Interrupted trainings of a run that is going on."""
        return self.folder / "checkpoints"

    def finish(self, notes: Sequence[str] = ()) -> None:
        """Mark the run as complete, note what was said of it, and remove what was only needed on the way."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(self.folder / "manifest.json", {**self.manifest, "finished": now, "notes": list(notes)})
        for folder in (self.parts, self.checkpoints):
            shutil.rmtree(folder, ignore_errors=True)
