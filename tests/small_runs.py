"""Small runs with known answers: nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mirembed import Classification, Regression, Target, Task
from mirembed.config.approaches import Approach, Method
from mirembed.config.comparisons import Comparisons
from mirembed.runs.folder import FORMAT
from mirembed.store.files import write_json, write_table
from mirembed.store.rows import task_to_json

CLASSES = Classification(("blues", "jazz"))
TARGETS = Regression((Target("valence", 1, 9), Target("arousal", 1, 9)))
N_FOLDS, N_TEST = 5, 20
FOLDS = [number // N_TEST for number in range(N_FOLDS * N_TEST)]
LABELS = ["blues", "jazz"] * (N_FOLDS * N_TEST // 2)
OTHER = {"blues": "jazz", "jazz": "blues"}

RIGHT = {"rbf-sl": [18, 19, 18, 20, 18], "nn": [10, 11, 9, 12, 10], "fl": [18, 17, 19, 18, 19]}
"""The number of correct predictions for the 20 tracks of each fold, by approach."""


def answers(right: Sequence[int]) -> list[str]:
    """Return predictions that are correct for the first ``right`` tracks of each fold."""
    return [
        label if number % N_TEST < right[fold] else OTHER[label]
        for number, (label, fold) in enumerate(zip(LABELS, FOLDS, strict=True))
    ]


def declared(methods: Sequence[str]) -> Comparisons:
    """Return the comparisons that an evaluation of methods declares if it is told nothing else."""
    return Comparisons.of([Method(name, "logmel", "gru", Approach.parse(name), None) for name in methods])


def write_run(
    folder: Path,
    predictions: Mapping[str, Sequence[Sequence[Any]]] | None = None,
    *,
    task: Task = CLASSES,
    truth: Sequence[Any] = LABELS,
    places: Sequence[Sequence[int]] = (FOLDS,),
    finished: str | None = "2026-01-02T03:04:05+00:00",
    **configuration: Any,
) -> Path:
    """Write a run on the tracks 000, 001, ...

    The ``predictions`` of each approach, and the ``places`` (the fold of each track), have a list for each seed; for
    regression each track has a list of values. Further arguments change the configuration.
    """
    if predictions is None:
        predictions = {approach: [answers(right)] for approach, right in RIGHT.items()}
    ids = [f"{number:03d}" for number in range(len(truth))]
    folds = [
        {"seed": seed, "fold": fold, "id": track}
        for seed, of_seed in enumerate(places)
        for track, fold in zip(ids, of_seed, strict=True)
    ]
    write_table(folder / "folds.parquet", pa.Table.from_pylist(folds))
    rows = [
        {
            "method": approach,
            "approach": approach,
            "learner": "svm",
            "network": "gru",
            "features": "logmel",
            "seed": seed,
            "fold": fold,
            "id": track,
            **_columns(task, real, predicted),
        }
        for approach, by_seed in predictions.items()
        for seed, of_seed in enumerate(by_seed)
        for track, fold, real, predicted in zip(ids, places[seed], truth, of_seed, strict=True)
    ]
    write_table(folder / "predictions.parquet", pa.Table.from_pylist(rows[::-1]))
    content = {
        "dataset": {"spec": "folder", "digest": "0123", "tracks": "0123"},
        "task": task_to_json(task),
        "n_tracks": len(truth),
        "approaches": {approach: {} for approach in predictions},
        "methods": [
            {"name": name, "approach": name, "learner": "svm", "network": "gru", "features": "logmel"}
            for name in predictions
        ],
        "comparisons": declared(list(predictions)).to_json(),
        "epochs": 400,
        "metric": None,
        "bootstrap": "tracks",
        "folds": "stratified",
        "cv": N_FOLDS,
        "splits": None,
        "test_size": None,
        "train_size": 1.0,
        "select": [],
        "n_used": len(truth),
        "n_test": N_TEST,
        "n_train": (N_FOLDS - 1) * N_TEST,
        "seeds": list(range(len(places))),
    }
    manifest = {
        "format": FORMAT,
        "command": "mirembed evaluate --cv 5",
        "configuration": content | configuration,
        "started": "2026-01-01T00:00:00+00:00",
        "finished": finished,
    }
    write_json(folder / "manifest.json", manifest)
    return folder


def _columns(task: Task, truth: Any, predicted: Any) -> dict[str, Any]:
    if isinstance(task, Classification):
        return {"label": truth, "prediction": predicted}
    names = [target.name for target in task.targets]
    return dict(zip(names, truth, strict=True)) | {
        f"predicted_{name}": value for name, value in zip(names, predicted, strict=True)
    }
