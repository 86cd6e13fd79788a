"""Measure the tables of docs/results.md, and write them into the page.

::

    python -m benchmarks.results --dataset demo --dataset gtzan GTZAN --dataset emotify EMOTIFY

``GTZAN`` and ``EMOTIFY`` are folders with the audio. Features are extracted if the store lacks them. Evaluations that
are in the store are not repeated, as long as code, tracks and settings are the same, so the same command resumes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mirembed
from mirembed.api.evaluation import plan
from mirembed.api.words import given_words
from mirembed.compare.paired_tests import PairedTest, RunMethod, corrected, p_text, paired_test
from mirembed.config import read_preset
from mirembed.config.approaches import Method
from mirembed.progress import NO_PROGRESS, counted
from mirembed.provenance import content_digest
from mirembed.registry import Registry
from mirembed.runs.cost import MethodsCost, costs
from mirembed.runs.folder import RunFolder
from mirembed.runs.record import RunRecord, open_run
from mirembed.statistics.intervals import Interval
from mirembed.statistics.metrics import metric_named
from mirembed.store import Store

PAGE = Path(__file__).parents[1] / "docs" / "results.md"

BEST = "best"
FEATURES = ["logmel", "semitones", "chroma"]
"""What `BEST` needs; ``stats`` gets all of them, stacked."""

EVALUATIONS: Sequence[Mapping[str, Any]] = (
    {
        "approach": ["chance", "stats"],
        "features": ["logmel", "+".join(FEATURES)],
        "select": list(read_preset(BEST)[0].select),
    },
    {
        "approach": ["nn", "fl", "rbf-sl", "cosine-sl", "polynomial-sl", "rbf:gamma=2-sl"],
        "features": "logmel",
    },
    {"preset": BEST},
)
"""Evaluations on the same folds, by the keywords of `mirembed.evaluate`."""

SINGLE = "rbf-sl"
"""The method that `BEST` is compared with, besides its members."""


@dataclass(frozen=True)
class Row:
    """A method in a table.

    Attributes
    ----------
    method, features : str
    score : Interval
        The headline metric.
    difference : Interval or None
        The score of `BEST` minus this one; None if they are not compared.
    p : float or None
        Corrected for the number of comparisons in the table.
    cpu_seconds : float
        Of all folds.
    """

    method: str
    features: str
    score: Interval
    difference: Interval | None
    p: float | None
    cpu_seconds: float


def main(words: Sequence[str] | None = None) -> None:
    """Run what is missing, and put the tables into the page."""
    given = _parse(words)
    page = given.page.read_text(encoding="utf-8")
    for dataset, *_ in given.dataset:
        between(page, dataset)  # fails before anything is run if there is no place for it
    for dataset, *folder in given.dataset:
        audio = folder[0] if folder else None
        done = mirembed.extract(dataset, audio=audio, store=given.store, features=FEATURES, jobs=given.jobs)
        print(done, file=sys.stderr)
        parts = []
        for scheme in schemes(given.store, dataset, given.cv, given.only):
            shared = {"cv": given.cv, "folds": scheme, "epochs": given.epochs, "checkpoint_every": 0}
            runs = [evaluated(given.store, dataset, given.jobs, **shared, **one) for one in EVALUATIONS]
            parts.append(section(runs))
            page = put(given.page.read_text(encoding="utf-8"), dataset, "\n".join(parts))
            given.page.write_text(page, encoding="utf-8")


def between(page: str, dataset: str) -> str:
    """Return what the page has between the markers of a dataset."""
    return _partition(page, dataset)[1]


def put(page: str, dataset: str, text: str) -> str:
    """Return the page with other text between the markers of a dataset."""
    before, _, after = _partition(page, dataset)
    return before + text + after


def _partition(page: str, dataset: str) -> tuple[str, str, str]:
    begin, end = f"<!-- results of {dataset} -->\n", f"<!-- end of results of {dataset} -->\n"
    before, found, rest = page.partition(begin)
    inside, ended, after = rest.partition(end)
    if not (found and ended):
        sys.exit(f"the page has no place for {dataset}: add the lines\n{begin}{end}")
    return before + begin, inside, end + after


def schemes(store: Path, dataset: str, n_folds: int, only: str | None = None) -> list[str | None]:
    """Return how the folds are drawn: the default of the task and, if there are enough groups, ``grouped``.

    ``only`` is ``grouped`` or ``ungrouped`` for one of the two.
    """
    groups = {one for one in mirembed.Store(store).tracks(dataset)["group"].to_pylist() if one is not None}
    found = {"ungrouped": None} | ({"grouped": "grouped"} if len(groups) >= n_folds else {})
    return [scheme for name, scheme in found.items() if only in (name, None)]


def evaluated(store: Path, dataset: str, jobs: int | None, **words: Any) -> RunRecord:
    """Return the finished run with these settings, code and tracks; if there is none, run it."""
    place = Store(store)
    preset = words.pop("preset", None)
    given = given_words({"dataset": dataset, **words})
    planned = plan(given, "results", place, Registry.discover(), config=None, preset=preset, progress=NO_PROGRESS)
    digest = content_digest(planned.runs[0].configuration())
    for folder in sorted(place.runs.glob(f"*-{digest}*")):
        if RunFolder(folder).finished:
            return open_run(place.runs, str(folder))
    run = mirembed.evaluate(dataset, store=store, preset=preset, jobs=jobs, **words)
    print(run, file=sys.stderr)
    return open_run(place.runs, str(run.path))


def section(runs: Sequence[RunRecord]) -> str:
    """Return the table of a dataset with one kind of folds; all runs have the same, and the last one has `BEST`."""
    best = runs[-1]
    for run in runs:
        if (run.tests, run.headline) != (best.tests, best.headline):
            sys.exit(f"{run.folder} and {best.folder} have different folds or metrics")
    folds, label = best.describe_folds(), metric_named(best.headline).label
    parts = [part for run in runs for part in _costs(run)]
    processors = dict.fromkeys(name for part in parts for name in part.processors)
    epochs = counted(best.configuration["epochs"], "epoch")
    return (
        f"\n### {best.configuration['dataset']['spec']}, {folds}\n\n"
        f"{best.sizes.describe(folds)}, {epochs}, on {', '.join(processors)}.\n\n"
        f"{markdown(rows(runs), label)}"
    )


def rows(runs: Sequence[RunRecord]) -> list[Row]:
    """Return the methods of runs on the same folds, each once; the last run has `BEST`.

    `BEST` is compared with its members and with `SINGLE`. Holm's correction covers these comparisons.
    """
    found: dict[tuple[str, str], Row] = {}
    compared = {(test.run_b, test.b): test for test in corrected(_comparisons(runs))}
    for number, run in enumerate(runs, 1):
        cpu_seconds = {name: part.cost.cpu_seconds for part in _costs(run) for name in part.methods}
        for method in run.methods:
            cost = sum(cpu_seconds.get(name, 0.0) for name in method.approach.members or (method.name,))
            test = compared.get((number, method.name))
            row = Row(
                _label(method, run.configuration["ensemble"]),
                method.features or "",
                run.interval(method.name, (run.headline, None)),
                None if test is None else test.difference,
                None if test is None else test.p_holm,
                cost,
            )
            found[row.method, row.features] = row  # a member of BEST replaces the same method alone
    return list(found.values())


def _comparisons(runs: Sequence[RunRecord]) -> Iterator[PairedTest]:
    """Test `BEST`, of the last run, against its members and against `SINGLE`, of the others."""
    *others, of_best = runs
    best = RunMethod(of_best, BEST, len(runs))
    [members] = [method.approach.members for method in of_best.methods if method.name == BEST]
    wanted = [best._replace(method=name) for name in members]
    wanted += [RunMethod(run, SINGLE, number) for number, run in enumerate(others, 1) if SINGLE in run.predictions]
    for other in wanted:
        yield paired_test(best, other, (of_best.headline, None))


def _costs(run: RunRecord) -> list[MethodsCost]:
    table = RunFolder(run.folder).read_cost()
    return [] if table is None else costs(table)


def _label(method: Method, ensemble: int) -> str:
    """Return what a table calls a method."""
    if method.approach.trains and ensemble > 1:
        return f"`{method.approach.name}`, {ensemble} networks"
    return f"`--preset {BEST}`" if method.name == BEST else f"`{method.approach.name}`"


def markdown(methods: Sequence[Row], label: str) -> str:
    """Return the table of methods; ``label`` is the heading of their scores."""
    lines = [
        f"| Method | Features | {label} | `{BEST}` - method | p (Holm) | CPU minutes |",
        "|---|---|---|---|---|---:|",
    ]
    for row in methods:
        features = f"`{row.features}`" if row.features else ""
        difference = "" if row.difference is None else str(row.difference)
        minutes = row.cpu_seconds / 60
        cost = f"{minutes:.1f}" if minutes >= 1 else f"{minutes:.2f}"
        lines.append(f"| {row.method} | {features} | {row.score} | {difference} | {p_text(row.p)} | {cost} |")
    return "\n".join(lines) + "\n"


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.results", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--dataset", nargs="+", action="append", required=True, metavar=("SPEC", "AUDIO"), help="repeatable"
    )
    parser.add_argument("--store", type=Path, default=Path("mirembed-store"), help="default: mirembed-store")
    parser.add_argument("--page", type=Path, default=PAGE, help="default: docs/results.md")
    parser.add_argument("--epochs", type=int, default=100, help="default: 100")
    parser.add_argument("--cv", type=int, default=10, help="default: 10")
    parser.add_argument("--only", choices=["grouped", "ungrouped"], help="only these folds; default: both")
    parser.add_argument("--jobs", type=int, help="default: one per core")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
