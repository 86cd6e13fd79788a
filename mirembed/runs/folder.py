"""A run on disk: its files, and how it is started, resumed, merged and finished.

::

    manifest.json          everything needed to run it again, and when it started and finished
    folds.parquet          which fold tests which track
    experiment.toml        the settings, as ``--config`` reads them
    predictions.parquet    one row for each method, seed, fold and test track: label and prediction after the last epoch
    checkpoints.parquet    the same at every checkpoint
    curves.parquet         the loss of every epoch
    cost.parquet           time, memory and processor of every training
    selection.parquet      with --select: the scores of all candidates in the inner folds, and which were chosen
    weights.parquet        with --combine stacked: the weights of the members
    embeddings/            of the first fold after the last epoch; with --keep-embeddings of all
    scores.json            the scores of each method
    notes.json             notes and warnings about tracks, folds and models
    plugins/               the files in --plugins-dir that the run uses
    folds/                 the table that was given with --folds
    parts/, checkpoints/   until the run finishes: finished trainings, and those that were interrupted
    models/                the models of the folds, with --keep-models

`mirembed.runs.tables` has the columns of the tables. An experiment of several evaluations is a folder with a
``manifest.json`` and an ``experiment.toml`` of its own, and one such run for each evaluation.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mirembed.config.approaches import Method
from mirembed.config.files import EXPERIMENT_FILE
from mirembed.differences import ask_the_same, describe, differing_settings, made_with
from mirembed.errors import StoreError
from mirembed.hookspecs import Task
from mirembed.provenance import content_digest
from mirembed.runs.combined import combine_predictions
from mirembed.runs.tables import TRAINED, cost_table, curves_table, selection_table, with_epoch
from mirembed.store.files import (
    exclusive,
    is_held,
    read_json,
    read_table,
    remove_leftovers,
    write_json,
    write_table,
    writing,
)
from mirembed.store.root import slug
from mirembed.workers.cost import Cost

FORMAT = 4
"""Version of a run's files."""

MANIFEST, FOLDS, CURVES, SCORES, NOTES = "manifest.json", "folds.parquet", "curves.parquet", "scores.json", "notes.json"
PREDICTIONS, CHECKPOINTS, COST = "predictions.parquet", "checkpoints.parquet", "cost.parquet"
SELECTION, WEIGHTS = "selection.parquet", "weights.parquet"
EMBEDDINGS, PLUGINS = "embeddings", "plugins"
FOLDS_FILE_FOLDER = "folds"
"""Holds the table that was given with ``--folds``, under its own name."""

_EMBEDDINGS, _INNER, _LOSSES, _COST = "embeddings.parquet", "inner.parquet", "losses.json", "cost.json"


@dataclass(frozen=True, eq=False)
class Output:
    """What a part says about one network of its fold.

    Attributes
    ----------
    predictions : pyarrow.Table
        After the last epoch.
    embeddings : pyarrow.Table or None
        After the last epoch; None if they are not kept.
    losses : list of float
        One per epoch.
    notes : mapping of str to sequence of str
        By method.
    checkpoint_epoch : int or None
        The last epoch; None if checkpoints are not scored.
    """

    predictions: pa.Table
    embeddings: pa.Table | None
    losses: list[float]
    notes: Mapping[str, Sequence[str]]
    checkpoint_epoch: int | None


@dataclass(frozen=True)
class PartFolder:
    """One training of a run on disk.

    Attributes
    ----------
    folder : pathlib.Path
        Written as a whole when the training is finished and scored.
    unfinished : pathlib.Path
        Until then, holds what its checkpoints wrote.
    """

    folder: Path
    unfinished: Path

    @property
    def exists(self) -> bool:
        """Whether the training is finished and scored."""
        return self.folder.exists()

    def write_checkpoint(self, epoch: int, predictions: pa.Table, embeddings: pa.Table | None) -> None:
        """Write the predictions after an epoch, and the embeddings if they are kept."""
        # Networks that different methods chose have checkpoints of their own.
        name = f"{epoch:06d}-{slug(predictions['method'][0].as_py())}"
        if embeddings is not None:
            write_table(self.unfinished / f"{name}-{_EMBEDDINGS}", embeddings)
        write_table(self.unfinished / f"{name}-{PREDICTIONS}", predictions)

    def read_cost(self, task: str = "*") -> Cost:
        """Return the cost of an unfinished part so far: of one of its tasks, or of all, with the latest session."""
        found = [Cost(**read_json(path)) for path in sorted(self.unfinished.glob(f"{task}-{_COST}"))]
        return replace(sum(found, Cost()), sessions=max((one.sessions for one in found), default=0))

    def write_cost(self, task: str, cost: Cost) -> None:
        """Note the cost of a task of an unfinished part so far; ``sessions`` is the number of this one."""
        write_json(self.unfinished / f"{task}-{_COST}", asdict(cost))

    def write(
        self,
        outputs: Sequence[Output],
        cost: Cost,
        processor: str,
        selection: Sequence[Mapping[str, Any]] = (),
        inner: pa.Table | None = None,
    ) -> None:
        """Write the finished part, including what its checkpoints wrote, and delete their files.

        Parameters
        ----------
        outputs : sequence of Output
            One for each network.
        cost : Cost
            Of all sessions.
        processor : str
        selection : sequence of mapping
            Rows of `mirembed.runs.tables.selection_table`, without seed and fold; empty if nothing was chosen.
        inner : pyarrow.Table or None
            Predictions of the training tracks in inner folds, of the members of stacked methods.
        """
        kept = [read_table(path) for _, path in self._waiting(_EMBEDDINGS)]
        kept += [one.embeddings for one in outputs if one.embeddings is not None]
        last = [(one.checkpoint_epoch, one.predictions) for one in outputs if one.checkpoint_epoch is not None]
        methods = [list(dict.fromkeys(one.predictions["method"].to_pylist())) for one in outputs]
        losses = [{"methods": names, "losses": one.losses} for names, one in zip(methods, outputs, strict=True)]
        with writing(self.folder) as temporary:
            temporary.mkdir()
            write_table(temporary / PREDICTIONS, pa.concat_tables([one.predictions for one in outputs]))
            if last:
                scored = [(epoch, read_table(path)) for epoch, path in self._waiting(PREDICTIONS)]
                write_table(
                    temporary / CHECKPOINTS,
                    pa.concat_tables([with_epoch(table, epoch) for epoch, table in [*scored, *last]]),
                )
            if kept:
                write_table(temporary / _EMBEDDINGS, pa.concat_tables(kept))
            if inner is not None:
                write_table(temporary / _INNER, inner)
            if selection:
                write_table(temporary / SELECTION, selection_table(selection, outputs[0].predictions))
            (temporary / _LOSSES).write_text(json.dumps(losses))
            (temporary / NOTES).write_text(json.dumps({name: one.notes[name] for one in outputs for name in one.notes}))
            write_json(temporary / _COST, {**asdict(cost), "processor": processor})
        shutil.rmtree(self.unfinished, ignore_errors=True)

    def read_notes(self) -> dict[str, list[str]]:
        """Return the notes about the models of a finished part, by method."""
        return dict(read_json(self.folder / NOTES))

    def read_losses(self) -> list[tuple[pa.Table, list[float]]]:
        """Return the losses of each network of a finished part, one per epoch, and the predictions of its methods."""
        table = self.read_networks()
        methods = np.array(table["method"].to_pylist())
        return [
            (table.filter(pa.array(np.isin(methods, one["methods"]))), list(one["losses"]))
            for one in read_json(self.folder / _LOSSES)
        ]

    def read_networks(self) -> pa.Table:
        """Return the predictions of a finished part without labels and values: what says which network made them."""
        return read_table(self.folder / PREDICTIONS, columns=["method", *TRAINED, "seed", "fold"])

    def read_final_cost(self) -> dict[str, Any]:
        """Return the cost of a finished part and its processor."""
        return dict(read_json(self.folder / _COST))

    def _waiting(self, ending: str) -> list[tuple[int, Path]]:
        """Return the epochs and files that `write_checkpoint` has written."""
        paths = sorted(self.unfinished.glob(f"[0-9]*-{ending}"))
        return [(int(path.name.partition("-")[0]), path) for path in paths]


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, or of an experiment of several."""

    folder: Path

    @classmethod
    def resume(
        cls,
        runs: Path,
        name: str,
        configuration: Mapping[str, Any],
        command: str,
        note: Callable[[str], None] = lambda text: None,
    ) -> RunFolder:
        """Return the unfinished run with this configuration, or start a new one.

        A run is never resumed with other code, frames, versions, engine or processor.

        Parameters
        ----------
        runs : pathlib.Path
        name : str
            Start of the folder's name; the date and a digest of the configuration follow.
        configuration : mapping
            Everything that decides the numbers.
        command : str
            As typed.
        note : callable
            Called with the reason why the interrupted run of the same command is not resumed, if there is one.
        """
        digest = content_digest(configuration)
        for folder in sorted(runs.glob(f"*-{digest}*"), reverse=True):
            if (folder / MANIFEST).exists() and not cls(folder).finished:
                return cls(folder)
        if (other := cls._interrupted(runs, configuration)) is not None:
            changed = made_with(other.manifest["configuration"], configuration)
            note(f"starting a new run, because {other.folder.name} cannot be resumed: {describe(changed)}")
        first = folder = runs / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{digest}"
        number = 2
        while folder.exists():
            folder = first.with_name(f"{first.name}-{number}")
            number += 1
        return cls._start(folder, configuration, command)

    @classmethod
    def _interrupted(cls, runs: Path, configuration: Mapping[str, Any]) -> RunFolder | None:
        """Return the latest run of the same command, if it was interrupted and made with something else."""
        latest: tuple[str, RunFolder] | None = None
        for run in list_runs(runs):
            with contextlib.suppress(StoreError):  # not a run, or of another format
                manifest = run.manifest
                if ask_the_same(manifest["configuration"], configuration):
                    latest = max(filter(None, [latest, (manifest["started"], run)]), key=lambda pair: pair[0])
        return latest[1] if latest is not None and latest[1].state == "interrupted" else None

    @classmethod
    def resume_at(cls, folder: Path, configuration: Mapping[str, Any], command: str) -> RunFolder:
        """Return the run in ``folder``, finished or not, or start it there.

        Raises
        ------
        StoreError
            If the run there has another configuration.
        """
        run = cls(folder)
        if not (folder / MANIFEST).exists():
            return cls._start(folder, configuration, command)
        before = run.manifest["configuration"]
        if content_digest(before) != content_digest(configuration):
            changed = describe(differing_settings(before, configuration)) or "the settings differ"
            raise StoreError(f"cannot resume {folder}: {changed}; delete {folder.parent} to start over")
        return run

    @classmethod
    def _start(cls, folder: Path, configuration: Mapping[str, Any], command: str) -> RunFolder:
        manifest = {
            "format": FORMAT,
            "command": command,
            "configuration": configuration,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "finished": None,
        }
        write_json(folder / MANIFEST, manifest)
        return cls(folder)

    @property
    def manifest(self) -> dict[str, Any]:
        """The content of ``manifest.json``.

        Raises
        ------
        StoreError
            If it is not the manifest of a run, or has another format.
        """
        content = read_json(self.folder / MANIFEST)
        known: dict[str, Any] = content if isinstance(content, dict) else {}
        missing = [name for name in ("command", "finished", "format", "started") if name not in known]
        if missing or not isinstance(known.get("configuration"), dict):
            lacks = ", ".join([*missing] or ["a configuration"])
            raise StoreError(f"{self.folder} is not a run of mirembed: its {MANIFEST} lacks {lacks}; evaluate again")
        if known["format"] != FORMAT:
            raise StoreError(
                f"the run {self.folder} has format {known['format']}; this mirembed reads format {FORMAT}: "
                "use the version that wrote it, or evaluate again"
            )
        return known

    @property
    def finished(self) -> bool:
        """Whether the run is complete."""
        return self.manifest["finished"] is not None

    @property
    def state(self) -> str:
        """``finished``, ``running`` (in any process) or ``interrupted``."""
        if self.finished:
            return "finished"
        return "running" if is_held(self.folder) else "interrupted"

    @property
    def members(self) -> list[RunFolder]:
        """The runs of an experiment, whether they exist yet or not; empty for a single run."""
        return [RunFolder(self.folder / name) for name in self.manifest["configuration"].get("grid", [])]

    @property
    def has_folds(self) -> bool:
        """Whether the folds of the run have been drawn; until then, there is nothing to read."""
        return (self.folder / FOLDS).exists()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the exclusive right to write.

        Raises
        ------
        StoreBusyError
            If another process is running the same evaluation.
        """
        busy = f"another process is running this evaluation ({self.folder}); wait until it ends"
        with exclusive(self.folder, busy):
            for folder in (self.folder, self.parts, self.checkpoints):
                remove_leftovers(folder)
            yield

    @property
    def parts(self) -> Path:
        """The finished trainings of an unfinished run."""
        return self.folder / "parts"

    @property
    def checkpoints(self) -> Path:
        """The interrupted trainings of an unfinished run."""
        return self.folder / "checkpoints"

    @property
    def models(self) -> Path:
        """The models of the folds, with ``--keep-models``."""
        return self.folder / "models"

    def part(self, name: str) -> PartFolder:
        """Return the folder of one training."""
        return PartFolder(self.parts / name, self.checkpoints / name)

    def finished_parts(self) -> list[PartFolder]:
        """Return the finished trainings of an unfinished run."""
        names = sorted(path.name for path in self.parts.glob("[!.]*") if (path / PREDICTIONS).exists())
        return [self.part(name) for name in names]

    def differences(self, configuration: Mapping[str, Any]) -> list[str]:
        """Describe how another configuration differs in data, plugins and versions; empty if there is no run."""
        if not (self.folder / MANIFEST).exists():
            return []
        before = self.manifest["configuration"]
        sections = ("dataset", "features", "networks", "approaches", "learners")
        differing = {
            name: values
            for name, values in differing_settings(before, configuration).items()
            if name.partition(".")[0] in sections
        }
        return [
            f"{name} was {then} and is {now}"
            for name, (then, now) in (differing | made_with(before, configuration)).items()
        ]

    def write_plugins(self, files: Mapping[str, bytes]) -> None:
        """Keep the files in ``--plugins-dir`` that the run uses, by name."""
        for name, source in files.items():
            with writing(self.folder / PLUGINS / name) as temporary:
                temporary.write_bytes(source)

    def write_folds_file(self, name: str, content: bytes) -> None:
        """Keep the table that was given with ``--folds``."""
        with writing(self.folder / FOLDS_FILE_FOLDER / name) as temporary:
            temporary.write_bytes(content)

    def write_experiment(self, text: str) -> None:
        """Write the experiment file that repeats the run."""
        with writing(self.folder / EXPERIMENT_FILE) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def write_folds(self, folds: pa.Table) -> None:
        """Write the folds of all seeds, see `mirembed.runs.tables.folds_table`."""
        write_table(self.folder / FOLDS, folds)

    def write_notes(self, notes: Sequence[str]) -> None:
        """Write the notes and warnings about the run."""
        write_json(self.folder / NOTES, list(notes))

    def read_notes(self) -> list[str]:
        """Return the notes and warnings about the run."""
        path = self.folder / NOTES
        return list(read_json(path)) if path.exists() else []

    def write_scores(self, scores: Mapping[str, Any]) -> None:
        """Write the scores of each method, as JSON."""
        write_json(self.folder / SCORES, scores)

    def read_scores(self) -> dict[str, Any]:
        """Return what `write_scores` wrote; empty before the run is scored."""
        path = self.folder / SCORES
        return dict(read_json(path)) if path.exists() else {}

    def merge_parts(
        self, parts: Sequence[PartFolder], methods: Sequence[Method], task: Task
    ) -> tuple[pa.Table, list[str]]:
        """Merge all trainings into the tables of the run; return its predictions, and notes about combined methods.

        Parameters
        ----------
        parts : sequence of PartFolder
            By seed and fold.
        methods : sequence of Method
            All methods of the run, in the order that the tables get.
        task : Classification, Tags or Regression
        """
        order = {method.name: position for position, method in enumerate(methods)}
        predictions = [read_table(part.folder / PREDICTIONS) for part in parts]
        combined = combine_predictions(pa.concat_tables(predictions), methods, task, self._inner(parts))
        if combined.weights is not None:
            write_table(self.folder / WEIGHTS, combined.weights)

        def merge(name: str, tables: Sequence[pa.Table]) -> pa.Table:
            table = pa.concat_tables(tables)
            positions = np.array([order[method] for method in table["method"].to_pylist()])
            table = table.take(pa.array(np.argsort(positions, kind="stable")))
            write_table(self.folder / name, table)
            return table

        merged = merge(PREDICTIONS, [*predictions, *combined.tables])
        if checkpoints := [read_table(path) for part in parts if (path := part.folder / CHECKPOINTS).exists()]:
            merge(CHECKPOINTS, checkpoints)
        for part in parts:
            if (path := part.folder / _EMBEDDINGS).exists():
                write_table(self.folder / EMBEDDINGS / f"{part.folder.name}.parquet", read_table(path))
        if chosen := [read_table(path) for part in parts if (path := part.folder / SELECTION).exists()]:
            merge(SELECTION, chosen)
        write_table(self.folder / CURVES, curves_table([one for part in parts for one in part.read_losses()]))
        of_parts = [part.read_final_cost() for part in parts]
        write_table(self.folder / COST, cost_table(list(zip(predictions, of_parts, strict=True))))
        return merged, combined.notes

    def finish(self) -> None:
        """Mark the run as finished and delete the files of its parts and checkpoints."""
        manifest = self.manifest
        if not manifest["finished"]:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            write_json(self.folder / MANIFEST, {**manifest, "finished": now})
        for folder in (self.parts, self.checkpoints):
            shutil.rmtree(folder, ignore_errors=True)

    def read_folds(self) -> pa.Table:
        """Return the folds of all seeds."""
        return read_table(self.folder / FOLDS)

    def read_predictions(self) -> pa.Table | None:
        """Return the predictions after the last epoch; of an unfinished run, those of its finished trainings."""
        found = self._read(PREDICTIONS)
        if found is None and self.finished:
            raise StoreError(f"the run {self.folder} is damaged: {PREDICTIONS} is missing; evaluate again")
        return found

    def read_checkpoints(self) -> pa.Table | None:
        """Return the predictions at all checkpoints; None if none were scored."""
        return self._read(CHECKPOINTS)

    def read_curves(self) -> pa.Table:
        """Return the loss of every epoch; no rows before a training is finished."""
        if (self.folder / CURVES).exists():
            return read_table(self.folder / CURVES)
        return curves_table([one for part in self.finished_parts() for one in part.read_losses()])

    def read_selection(self) -> pa.Table | None:
        """Return what was chosen inside the folds, and between what; None if nothing was."""
        return self._read(SELECTION)

    def read_weights(self) -> pa.Table | None:
        """Return the weights of the members of stacked methods; None if there are none, or before the run is scored."""
        path = self.folder / WEIGHTS
        return read_table(path) if path.exists() else None

    def read_inner(self) -> pa.Table | None:
        """Return what members of stacked methods predict in inner folds, of the finished parts of an unfinished run."""
        return self._inner(self.finished_parts())

    @staticmethod
    def _inner(parts: Sequence[PartFolder]) -> pa.Table | None:
        tables = [read_table(path) for part in parts if (path := part.folder / _INNER).exists()]
        return pa.concat_tables(tables) if tables else None

    def read_cost(self) -> pa.Table | None:
        """Return the cost of every finished training; None if it was not recorded."""
        if (self.folder / COST).exists():
            return read_table(self.folder / COST)
        if self.finished:
            return None
        parts = self.finished_parts()
        return cost_table([(part.read_networks(), part.read_final_cost()) for part in parts])

    def embedding_files(self) -> list[Path]:
        """Return the tables of embeddings, one for each network and fold whose embeddings were kept."""
        kept = sorted((self.folder / EMBEDDINGS).glob("*.parquet"))
        return kept or [path for part in self.finished_parts() if (path := part.folder / _EMBEDDINGS).exists()]

    def _read(self, name: str) -> pa.Table | None:
        """Read a table of predictions; of an unfinished run, from its finished trainings."""
        if (self.folder / name).exists():
            return read_table(self.folder / name)
        paths = [part.folder / name for part in self.finished_parts()]
        tables = [read_table(path) for path in paths if path.exists()]
        return pa.concat_tables(tables) if tables else None


def list_runs(runs: Path) -> list[RunFolder]:
    """Return the runs and experiments of a store, by name."""
    return [RunFolder(path.parent) for path in sorted(runs.glob(f"*/{MANIFEST}"))]
