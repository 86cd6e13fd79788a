"""What was chosen inside the folds of a run, read from its table ``selection.parquet``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_OTHERS = ("method", "seed", "fold", "candidate", "inner_fold", "score", "chosen")
"""Columns of ``selection.parquet`` that are not choices."""


@dataclass(frozen=True)
class Chosen:
    """What was chosen for a method in a fold.

    Attributes
    ----------
    method : str
    seed, fold : int
    values : mapping of str to str
        By the name of the choice: ``learner.C``, ``epoch``.
    score : float or None
        Mean over the inner folds of the metric that decided; None if it was undefined in all of them.
    n_candidates : int
        Number of combinations that were compared.
    """

    method: str
    seed: int
    fold: int
    values: Mapping[str, str]
    score: float | None
    n_candidates: int

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as JSON."""
        return asdict(self)


def read_chosen(table: pa.Table | None) -> list[Chosen]:
    """Return what was chosen, by method, seed and fold; nothing for a run in which nothing was."""
    if table is None:
        return []
    rows = table.to_pylist()
    choices = [name for name in table.column_names if name not in _OTHERS]
    parts: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for row in rows:
        parts.setdefault((row["method"], row["seed"], row["fold"]), []).append(row)
    found = []
    for (method, seed, fold), of_part in parts.items():
        best = [row for row in of_part if row["chosen"]]
        scores = [row["score"] for row in best if row["score"] is not None]
        found.append(
            Chosen(
                method=method,
                seed=seed,
                fold=fold,
                values={name: str(best[0][name]) for name in choices if best[0][name] is not None},
                score=math.fsum(scores) / len(scores) if scores else None,
                n_candidates=len({row["candidate"] for row in of_part}),
            )
        )
    return found


def describe_values(values: Mapping[str, str]) -> str:
    """Return chosen values in a line.

    >>> describe_values({"learner.C": "10", "epoch": "40"})
    'learner.C=10, epoch=40'
    """
    return ", ".join(f"{name}={value}" for name, value in values.items())


def chosen_counts(chosen: Iterable[Chosen]) -> list[tuple[str, str, int, int]]:
    """Count in how many folds each combination was chosen, the most frequent first: method, values, count, folds.

    >>> parts = [Chosen("fl", 0, fold, {"learner.C": value}, 0.5, 2) for fold, value in enumerate(["1", "9", "9"])]
    >>> chosen_counts(parts)
    [('fl', 'learner.C=9', 2, 3), ('fl', 'learner.C=1', 1, 3)]
    """
    by_method: dict[str, Counter[str]] = {}
    for one in chosen:
        by_method.setdefault(one.method, Counter())[describe_values(one.values)] += 1
    return [
        (method, values, count, counts.total())
        for method, counts in by_method.items()
        for values, count in counts.most_common()
    ]
