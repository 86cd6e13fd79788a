"""The embeddings of one fold, with the labels of their tracks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirembed.hookspecs import Classification
from mirembed.runs.record import RunRecord
from mirembed.store.files import read_table

_PLACE = ("approach", "seed", "fold", "epoch")


@dataclass(frozen=True, eq=False)
class Embedded:
    """The embeddings of all tracks by the network of one fold, at the last epoch.

    Attributes
    ----------
    approach : str
    seed, fold, epoch : int
    ids : list of str
    in_sample : ndarray [n_tracks], bool
        Whether the network was trained on the track.
    vectors : ndarray [n_tracks, units], float32
    labels : ndarray [n_tracks], int64 class indices, or [n_tracks, n_targets], float64 in original units
    labeled : ndarray [n_tracks], bool
        Whether the run tells the track's label; of others it is 0.
    """

    approach: str
    seed: int
    fold: int
    epoch: int
    ids: list[str]
    in_sample: NDArray[np.bool_]
    vectors: NDArray[np.float32]
    labels: NDArray[Any]
    labeled: NDArray[np.bool_]

    def describe(self) -> str:
        """Return which network of the approach it is, in a few words."""
        return f"Seed {self.seed}, fold {self.fold}, epoch {self.epoch}"


def read_embedded(run: RunRecord) -> list[Embedded]:
    """Return the embeddings of the first seed's first fold, one for each network."""
    labels = _labels(run)
    chosen: dict[str, tuple[tuple[int, int, int], Path]] = {}
    for path in run.embedding_files:
        places = read_table(path, list(_PLACE)).group_by(_PLACE).aggregate([]).to_pylist()
        for place in places:
            key = (run.configuration["seeds"].index(place["seed"]), place["fold"], -place["epoch"])
            if place["approach"] not in chosen or key < chosen[place["approach"]][0]:
                chosen[place["approach"]] = (key, path)
    order = {method.approach.name: position for position, method in enumerate(run.methods)}
    by_place = sorted(chosen.items(), key=lambda item: order.get(item[0], len(order)))
    return [_read(path, run, -key[2], labels) for _, (key, path) in by_place]


def _labels(run: RunRecord) -> dict[str, Any]:
    """Return the true label of every track that was tested."""
    labels: dict[str, Any] = {}
    for answers in list(run.predictions.values())[:1]:
        labels.update(zip(answers.ids.tolist(), answers.truth, strict=True))
    return labels


def _read(path: Path, run: RunRecord, epoch: int, labels: dict[str, Any]) -> Embedded:
    import pyarrow.compute as pc

    table = read_table(path)
    table = table.filter(pc.equal(table["epoch"], epoch))
    ids = table["id"].to_pylist()
    width = 1 if isinstance(run.task, Classification) else len(run.task.targets)
    kind = np.int64 if isinstance(run.task, Classification) else np.float64
    found = np.array([labels.get(track, np.zeros(width)) for track in ids], kind)
    vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(ids), -1)
    return Embedded(
        approach=table["approach"][0].as_py(),
        seed=table["seed"][0].as_py(),
        fold=table["fold"][0].as_py(),
        epoch=epoch,
        ids=ids,
        in_sample=np.array(table["in_sample"].to_pylist(), bool),
        vectors=vectors,
        labels=found,
        labeled=np.array([track in labels for track in ids], bool),
    )
