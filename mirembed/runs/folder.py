"""A run on disk.

::

    manifest.json          everything needed to run it again, and when it began and ended
    folds.parquet          seed, id, fold: the fold in whose test part a track stands
    experiment.toml        the settings, as ``--config`` reads them
    predictions.parquet    one row for each method, seed, fold and test track: label and prediction after the last epoch
    checkpoints.parquet    the same at every checkpoint
    curves.parquet         approach, seed, fold, epoch, loss
    embeddings/            of the first fold after the last epoch; with --keep-embeddings of all
    scores.json            what the table shows
    notes.json             what was said of tracks, folds and models
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

from mirembed.config.files import EXPERIMENT_FILE
from mirembed.errors import StoreError
from mirembed.inventory.contents import run_contents
from mirembed.store.files import exclusive, read_json, remove_leftovers, write_json, writing

FORMAT = 2
"""Version of a run's files."""


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
        digest = _digest(configuration)
        for folder in sorted(runs.glob(f"*-{digest}*"), reverse=True):
            if (folder / "manifest.json").exists() and not cls(folder).manifest["finished"]:
                return cls(folder)
        now = datetime.now(UTC)
        folder = runs / f"{name}-{now:%Y%m%d-%H%M%S}-{digest}"
        number = 2
        while folder.exists():
            folder = runs / f"{name}-{now:%Y%m%d-%H%M%S}-{digest}-{number}"
            number += 1
        return cls._begin(folder, configuration, command)

    @classmethod
    def at(cls, folder: Path, configuration: Mapping[str, Any], command: str) -> Run:
        """Return the run in ``folder``, finished or not, or begin it there.

        Raises
        ------
        StoreError
            If the run that is there has another configuration.
        """
        if not (folder / "manifest.json").exists():
            return cls._begin(folder, configuration, command)
        run = cls(folder)
        if _digest(run.manifest["configuration"]) != _digest(configuration):
            raise StoreError(
                f"the run {folder} was begun with another dataset, other versions or other settings; "
                f"delete {folder.parent} to begin anew"
            )
        return run

    @classmethod
    def _begin(cls, folder: Path, configuration: Mapping[str, Any], command: str) -> Run:
        manifest = {
            "format": FORMAT,
            "command": command,
            "configuration": configuration,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "finished": None,
        }
        write_json(folder / "manifest.json", manifest)
        return cls(folder)

    @property
    def manifest(self) -> dict[str, Any]:
        """The content of ``manifest.json``."""
        content: dict[str, Any] = read_json(self.folder / "manifest.json")
        if "finished" not in content:
            raise StoreError(f"{self.folder} is not a run of mirembed")
        if content.get("format") != FORMAT:
            raise StoreError(
                f"the run {self.folder} has format {content.get('format')}, this mirembed reads format {FORMAT}; "
                "use the version of mirembed that wrote it, or evaluate again"
            )
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

    def differences(self, configuration: Mapping[str, Any]) -> list[str]:
        """Say in what data, plugins and versions another configuration differs; nothing where there is no run."""
        if not (self.folder / "manifest.json").exists():
            return []
        then, now = flat(self.manifest["configuration"]), flat(configuration)
        sections = ("dataset", "spectrogram", "versions", "approaches", "learners")
        return [
            f"{name} was {then[name]} and is {now[name]}"
            for name in then
            if name.partition(".")[0] in sections and name in now and then[name] != now[name]
        ]

    def write_experiment(self, text: str) -> None:
        """Write the experiment file that repeats the run."""
        with writing(self.folder / EXPERIMENT_FILE) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def finish(self) -> None:
        """Mark the run as complete and remove what was only needed on the way."""
        if not self.manifest["finished"]:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            write_json(self.folder / "manifest.json", {**self.manifest, "finished": now})
        for folder in (self.parts, self.checkpoints):
            shutil.rmtree(folder, ignore_errors=True)


def find_run(runs: Path, name: str) -> Run:
    """Return a run by its folder, its name in ``runs``, or a beginning of that name that no other shares.

    Raises
    ------
    StoreError
        There is none, or more than one.
    """

    def is_run(folder: Path) -> bool:
        return (folder / "manifest.json").is_file()

    for folder in (Path(name), runs / name):
        if is_run(folder):
            return Run(folder)
    known = sorted(folder for folder in runs.glob("*") if is_run(folder))
    begun = [folder for folder in known if folder.name.startswith(name)]
    if len(begun) == 1:
        return Run(begun[0])
    if begun:
        raise StoreError(f"{name!r} begins the names of {len(begun)} runs; say more:\n{_described(begun)}")
    raise StoreError(
        f"{name!r} is neither a run's folder nor the beginning of the name of a run in {runs} "
        f"({_names(known) or 'none yet'}); `mirembed evaluate` makes one"
    )


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, its names joined by points."""
    values: dict[str, Any] = {}
    for name, value in content.items():
        values |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return values


def _described(folders: Sequence[Path], most: int = 8) -> str:
    """Return a line for each of the latest runs, with what tells them from one another."""
    more = [f"  and {len(folders) - most} more"] if len(folders) > most else []
    return "\n".join(
        [*(f"  {folder.name}: {run_contents(folder, folder.name).describe()}" for folder in folders[-most:]), *more]
    )


def _names(folders: Sequence[Path], most: int = 5) -> str:
    more = f" and {len(folders) - most} more" if len(folders) > most else ""
    return ", ".join(folder.name for folder in folders[-most:]) + more


def _digest(configuration: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()[:12]
