"""What is wrong with the runs of a store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirembed.errors import StoreError
from mirembed.inventory.faults import Fault, unreadable
from mirembed.store.files import read_json, read_table

if TYPE_CHECKING:
    import pyarrow as pa

EVALUATE_AGAIN = "delete the folder of the run and evaluate again: its manifest.json has the command"
"""What mends a run."""

TABLES = ("folds.parquet", "predictions.parquet", "curves.parquet", "scores.json")
"""The files of every finished run."""


def run_faults(folder: Path) -> Iterator[Fault]:
    """Yield what is wrong with a run or experiment.

    A finished run has a prediction for each track of each fold, and the losses of all epochs. Of one that is not
    finished, what is there is read.
    """
    try:
        manifest = read_json(folder / "manifest.json")
        finished, configuration = manifest["finished"], dict(manifest["configuration"])
    except (StoreError, KeyError, TypeError, ValueError) as error:
        yield Fault.of(folder, f"is no run: {error}", "move it out of the store, or delete it")
        return
    if "grid" in configuration:
        yield from _members(folder, configuration["grid"], bool(finished))
        return
    needed = [folder / name for name in TABLES] if finished else []
    faults = [fault for path in dict.fromkeys([*needed, *_files(folder)]) for fault in unreadable(path, EVALUATE_AGAIN)]
    yield from faults
    if finished and not faults:
        yield from _gaps(folder, configuration)


def _members(folder: Path, names: list[str], finished: bool) -> Iterator[Fault]:
    for name in names:
        if (folder / name).exists():
            yield from run_faults(folder / name)
        elif finished:
            yield Fault(str(folder / name), "is missing", "run the experiment again with its experiment.toml")


def _files(folder: Path) -> list[Path]:
    files = [*folder.rglob("*.parquet"), *folder.glob("*.json")]
    return sorted(path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _gaps(folder: Path, configuration: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what the tables of a finished run lack."""
    tested = read_table(folder / "folds.parquet")
    wanted = set(_rows(tested.filter(tested["fold"].is_valid()), "seed", "id", "fold"))
    predictions = folder / "predictions.parquet"
    by_method: dict[str, list[tuple[Any, ...]]] = {}
    table = read_table(predictions)
    method = "method" if "method" in table.column_names else "approach"
    for name, *place in _rows(table, method, "seed", "id", "fold"):
        by_method.setdefault(name, []).append(tuple(place))
    for name, places in by_method.items():
        if len(places) != len(wanted) or set(places) != wanted:
            what = f"has {len(places)} predictions of {name}; the folds test {len(wanted)} tracks"
            yield Fault(str(predictions), what, EVALUATE_AGAIN)
    curves = folder / "curves.parquet"
    epochs: dict[tuple[Any, ...], set[int]] = {}
    for *place, epoch in _rows(read_table(curves), "approach", "seed", "fold", "epoch"):
        epochs.setdefault(tuple(place), set()).add(epoch)
    expected = set(range(1, configuration["epochs"] + 1)) if "epochs" in configuration else None
    for (name, seed, fold), found in epochs.items():
        if expected is not None and found != expected:
            what = f"has {len(found)} of {len(expected)} epochs of {name}, seed {seed}, fold {fold}"
            yield Fault(str(curves), what, EVALUATE_AGAIN)


def _rows(table: pa.Table, *columns: str) -> list[tuple[Any, ...]]:
    return list(zip(*(table[column].to_pylist() for column in columns), strict=True))
