"""The tables of a run on disk, whether it is finished or still going on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirembed.errors import StoreError
from mirembed.evaluate.parts import CHECKPOINTS, EMBEDDINGS, PREDICTIONS, read_losses
from mirembed.runs.folder import Run
from mirembed.store.files import read_table

if TYPE_CHECKING:
    import pyarrow as pa

CURVES = "curves.parquet"


def read_predictions(run: Run) -> pa.Table | None:
    """Return the predictions of the last epoch, of a run that is going on those of its finished trainings."""
    return _read(run, PREDICTIONS)


def read_checkpoints(run: Run) -> pa.Table | None:
    """Return the predictions at all checkpoints; None where none were scored."""
    return _read(run, CHECKPOINTS)


def read_curves(run: Run) -> pa.Table | None:
    """Return the loss of every epoch."""
    import pyarrow as pa

    if (run.folder / CURVES).exists():
        return read_table(run.folder / CURVES)
    rows = []
    for part in finished_parts(run):
        table = read_table(part / PREDICTIONS)
        first = {"seed": table["seed"][0].as_py(), "fold": table["fold"][0].as_py()}
        rows += losses_by_epoch(table["approach"].unique().to_pylist(), first, read_losses(part))
    return pa.Table.from_pylist(rows) if rows else None


def losses_by_epoch(approaches: Sequence[str], place: dict[str, Any], losses: Sequence[float]) -> list[dict[str, Any]]:
    """Return the rows of ``curves.parquet`` for the approaches that share a training."""
    return [
        {"approach": approach, **place, "epoch": epoch, "loss": loss}
        for approach in approaches
        for epoch, loss in enumerate(losses, 1)
    ]


def embedding_files(run: Run) -> list[Path]:
    """Return the tables of embeddings, one for each network and fold whose embeddings were kept."""
    kept = sorted((run.folder / "embeddings").glob("*.parquet"))
    return kept or [path for part in finished_parts(run) if (path := part / EMBEDDINGS).exists()]


def finished_parts(run: Run) -> list[Path]:
    """Return the folders of the finished trainings of a run that is going on."""
    return sorted(path for path in run.parts.glob("[!.]*") if (path / PREDICTIONS).exists())


def _read(run: Run, name: str) -> pa.Table | None:
    import pyarrow as pa

    if (run.folder / name).exists():
        return read_table(run.folder / name)
    if run.manifest["finished"] and name == PREDICTIONS:
        raise StoreError(f"the run {run.folder} is damaged: {name} is missing; evaluate again")
    tables = [read_table(part / name) for part in finished_parts(run) if (part / name).exists()]
    return pa.concat_tables(tables) if tables else None
