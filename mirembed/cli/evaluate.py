"""``mirembed evaluate``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirembed.cli import options
from mirembed.cli.output import ConsoleProgress, Table, print_result
from mirembed.config import Settings, defaults
from mirembed.interruption import RESUMES, STARTS_OVER, interruptible, say_when_interrupted

if TYPE_CHECKING:
    from mirembed.compare.families import Family
    from mirembed.evaluate.experiment import Result


def evaluate(
    context: typer.Context,
    dataset: Annotated[
        list[str] | None, typer.Option(metavar="SPEC", help="Dataset; repeatable. Default: the only one stored.")
    ] = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Take the settings from an experiment file or a run; flags override them."),
    ] = None,
    preset: options.Preset = None,
    cv: Annotated[int | None, typer.Option(metavar="N", help=f"Number of folds. Default: {defaults.N_FOLDS}.")] = None,
    folds: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="stratified (default), random (default for targets), grouped, official folds, or a table of id "
            "and fold.",
        ),
    ] = None,
    splits: Annotated[
        int | None, typer.Option(metavar="N", help="Number of random splits, instead of cross-validation.")
    ] = None,
    test_size: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help=f"Share tested in each random split. Default: {defaults.TEST_SIZE}."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="Method to compare the others with. Default: the first combined one, else the first trained.",
        ),
    ] = None,
    train_size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHARE",
            callback=options.shares,
            help="Share of each fold's training tracks to train on; several, such as 0.25|0.5|1, make a run each.",
        ),
    ] = None,
    features: options.Features = None,
    network: options.Networks = None,
    similarity: options.Similarities = None,
    approach: options.Approaches = None,
    label_similarity: options.LabelSimilarity = None,
    learner: Annotated[
        list[str] | None,
        typer.Option(metavar="SPEC", help=f"Learner, such as svm:C=10; repeatable. Default: {defaults.LEARNER}."),
    ] = None,
    from_: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Also evaluate the network of this model; repeatable.",
        ),
    ] = None,
    combine: options.Combine = None,
    epochs: options.Epochs = None,
    batch: options.Batch = None,
    optimizer: options.Optimizer = None,
    excerpt: options.Excerpt = None,
    deltas: options.Deltas = None,
    ensemble: options.Ensemble = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N", min=0, help=f"Seed of folds, weights and excerpts; repeatable. Default: {defaults.SEED}."
        ),
    ] = None,
    metric: options.Metric = None,
    normalize: options.Normalize = None,
    select: options.Select = None,
    inner_cv: options.InnerCv = None,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help=f"Also score every N epochs, for learning curves; 0: never. Default: {defaults.CHECKPOINT_EVERY}.",
        ),
    ] = None,
    keep_models: Annotated[
        bool | None,
        typer.Option("--keep-models/--no-keep-models", help="Save the models of all folds in the run."),
    ] = None,
    keep_embeddings: Annotated[
        bool | None,
        typer.Option(
            "--keep-embeddings/--no-keep-embeddings",
            help="Save the embeddings of every checkpoint of all folds.",
        ),
    ] = None,
    exclude: options.Exclude = None,
    jobs: options.Jobs = None,
    executor: options.Executor = "local",
    scheduler: options.Scheduler = None,
    device: options.Device = None,
    engine: options.Engine = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print what would be trained, with its estimated cost.",
        ),
    ] = False,
    json: options.Json = False,
) -> None:
    """Cross-validate: fit network, normalization and learner inside every fold.

    Prints the mean over the folds with its 95 % interval (Nadeau & Bengio). Saves all out-of-fold predictions.
    """
    say_when_interrupted(STARTS_OVER if dry_run else RESUMES)
    if executor == "local":
        options.train_soon(context)
    with interruptible():
        from mirembed.api.evaluation import plan
        from mirembed.compare.families import describe_best, run_families
        from mirembed.runs.record import open_run
        from mirembed.store import Store
        from mirembed.workers.executor import executor as on_executor

    registry = options.discover()
    place, workers = Store.writable(store), options.jobs_or_cores(jobs)
    given = options.given_settings(context)
    with ConsoleProgress() as progress, on_executor(executor, scheduler, jobs):
        planned = plan(given, "the command line", place, registry, config=config, preset=preset, progress=progress)
        if dry_run:
            costs = planned.estimate(jobs=workers, progress=progress)
        else:
            folder, results = planned.run(jobs=workers, command=options.command_line(), progress=progress)
    if dry_run:
        print_result(json, costs.to_json, [costs.describe()])
        return
    contents, blocks = [], []
    for result in results:
        record = open_run(place.runs, str(result.run.folder))
        declared = [family for family in run_families(record) if not family.exploratory]
        contents.append(result.to_json() | {"comparisons": [family.to_json() for family in declared]})
        blocks += [*_text(result), *_comparisons(declared)]
        blocks += [describe_best(record, declared)] if declared else []
    blocks += _by_train_size(results)
    print_result(
        json,
        lambda: contents[0] if len(contents) == 1 else {"run": str(folder), "evaluations": contents},
        [*blocks, f"predictions, folds and curves: {folder}"],
    )


def _comparisons(declared: Sequence[Family]) -> Iterator[str | Table]:
    """Yield the tests of the families that were declared before training."""
    from mirembed.compare.paired_tests import p_text

    for family in declared:
        rows = [[test.a, test.b, test.difference, p_text(test.p_holm), test.verdict] for test in family.tests]
        yield Table(["A", "B", "A - B", "p (Holm)", "verdict"], rows, family.describe())


def _by_train_size(results: Sequence[Result]) -> Iterator[Table]:
    """Yield a table of the headline metric for each dataset that was evaluated with several ``--train-size``."""
    from mirembed.config.approaches import columns
    from mirembed.statistics.metrics import metric_named

    alike: dict[Settings, list[Result]] = {}
    for result in results:
        alike.setdefault(replace(result.planned.settings, train_size=(), name=""), []).append(result)
    for of_sizes in alike.values():
        if len(of_sizes) < 2:
            continue
        planned, headline = of_sizes[0].planned, of_sizes[0].scores[0].headline
        headings = columns(planned.methods)
        sizes = [f"{one.planned.train_size:g} ({one.planned.sizes.n_train:.0f} tracks)" for one in of_sizes]
        rows = [
            [*parts, *(one.scores[number].intervals[headline, None] for one in of_sizes)]
            for number, parts in enumerate(zip(*headings.values(), strict=True))
        ]
        title = f"{planned.tracks.info.spec}: {metric_named(headline).label} by train size"
        yield Table([*headings, *sizes], rows, title)


def _text(result: Result) -> Iterator[str | Table]:
    from mirembed.config.approaches import columns
    from mirembed.runs.cost import describe_costs
    from mirembed.runs.scores import describe_undefined
    from mirembed.runs.selection import chosen_counts
    from mirembed.runs.summary import describe_chance
    from mirembed.statistics.metrics import metric_named

    scores = result.scores
    headline = scores[0].headline
    shown = [name for name, column in scores[0].intervals if column is None]
    shown = [name for name in shown if name == headline or metric_named(name).in_brief]
    labels = [metric_named(name).label for name in shown]
    headings = columns(result.planned.methods)
    named = list(zip(scores, zip(*headings.values(), strict=True), strict=True))
    rows = [[*parts, *(s.intervals[name, None] for name in shown), s.pooled[headline, None]] for s, parts in named]
    yield Table([*headings, *labels, f"pooled {labels[0]}"], rows, result.planned.describe())
    for method in result.planned.methods:
        if method.approach.members:
            yield f"{method.name}: {method.approach.explain()}"
    if result.weights:
        rows = [[one.method, one.member, str(one)] for one in result.weights]
        yield Table(
            ["method", "member", "weight"], rows, "Weights from inner folds: mean over the folds (smallest to largest)"
        )
    by = list(scores[0].by_column)
    if len(headings) > 1 and 0 < len(by) <= len(scores):
        by_method = [[*parts, *(s.by_column[name] for name in by)] for s, parts in named]
        yield Table([*headings, *(f"{labels[0]} {name}" for name in by)], by_method)
    elif by:
        by_name = [[name, *(s.by_column[name] for s in scores)] for name in by]
        yield Table([f"{labels[0]} by {metric_named(headline).column}", *(s.method for s in scores)], by_name)
    for s in scores:
        if (name := next((name for name in shown if name in s.undefined), None)) is not None:
            yield f"{s.method}: {describe_undefined(name, s.undefined[name])}"
    if result.selection:
        yield Table(
            ["method", "chosen", "in"],
            [
                [method, values, f"{n} of {n_folds} folds"]
                for method, values, n, n_folds in chosen_counts(result.selection)
            ],
            f"Chosen by {labels[0]} in inner folds of the training tracks",
        )
    units = "tracks" if result.planned.bootstrap_groups is None else "groups"
    over_folds = "Nadeau & Bengio for means over folds, " if result.planned.n_folds > 1 else ""
    yield f"95 % intervals: {over_folds}bootstrap over {units} for pooled scores."
    yield describe_chance(headline, result.chance)
    if result.costs:
        yield describe_costs(result.costs)
