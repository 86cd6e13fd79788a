"""What the trainings of a run cost, summed over folds and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mirembed.progress import counted, duration, size
from mirembed.runs.tables import table_rows
from mirembed.workers.cost import Cost

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class MethodsCost:
    """The cost of all trainings of the methods that share a network.

    Attributes
    ----------
    methods : tuple of str
    network, features : str or None
    trainings : int
        One for each fold of each seed, with all networks of an ensemble, learners and predictions.
    resumed : int
        How many of them were interrupted and resumed.
    cost : Cost
        Times are sums and the memory is the largest.
    processors : tuple of str
    """

    methods: tuple[str, ...]
    network: str | None
    features: str | None
    trainings: int
    resumed: int
    cost: Cost
    processors: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the cost as JSON."""
        content = asdict(self)
        content |= {name: value for name, value in content.pop("cost").items() if name != "sessions"}
        return content


def costs(table: pa.Table) -> list[MethodsCost]:
    """Sum up the rows of ``cost.parquet``, see `mirembed.runs.tables.cost_table`, by methods that share a network."""
    names = ("wall_seconds", "cpu_seconds", "peak_memory", "sessions")
    parts: dict[tuple[Any, ...], list[tuple[Cost, str]]] = {}
    for methods, network, features, processor, *values in table_rows(
        table, "methods", "network", "features", "processor", *names
    ):
        parts.setdefault((tuple(methods), network, features), []).append((Cost(*values), processor))
    return [
        MethodsCost(
            methods,
            network,
            features,
            trainings=len(rows),
            resumed=sum(cost.sessions > 1 for cost, _ in rows),
            cost=sum((cost for cost, _ in rows), Cost()),
            processors=tuple(dict.fromkeys(processor for _, processor in rows)),
        )
        for (methods, network, features), rows in parts.items()
    ]


def total(parts: Sequence[MethodsCost]) -> MethodsCost:
    """Return the cost of all methods together."""
    return MethodsCost(
        methods=tuple(method for part in parts for method in part.methods),
        network=None,
        features=None,
        trainings=sum(part.trainings for part in parts),
        resumed=sum(part.resumed for part in parts),
        cost=sum((part.cost for part in parts), Cost()),
        processors=tuple(dict.fromkeys(processor for part in parts for processor in part.processors)),
    )


def costs_to_json(parts: Sequence[MethodsCost]) -> dict[str, Any]:
    """Return the cost of all methods together, and under ``parts`` those of each, as JSON."""
    whole = total(parts).to_json()
    for name in ("methods", "network", "features"):
        del whole[name]
    return {**whole, "parts": [part.to_json() for part in parts]}


def describe_costs(parts: Sequence[MethodsCost]) -> str:
    """Return the cost of all methods together in a line."""
    whole = total(parts)
    cost, resumed = whole.cost, ""
    if whole.resumed:
        resumed = f" ({counted(whole.resumed, 'training')} interrupted and resumed)"
    return (
        f"Cost, with learners and predictions{resumed}: "
        f"{duration(cost.cpu_seconds)} of CPU time and {duration(cost.wall_seconds)} of wall time in total, at most "
        f"{size(cost.peak_memory)} of memory in a worker, on {', '.join(whole.processors)}"
    )
