"""``mirembed evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mirembed.cli import options
from mirembed.cli.options import (
    DEFAULT_STORE,
    Approaches,
    BackendJobs,
    Batch,
    Dataset,
    Device,
    Epochs,
    Exclude,
    Jobs,
    Json,
    LabelSimilarity,
    Learner,
    NormaliseWith,
    Scheduler,
    Similarities,
    StoreFolder,
)

if TYPE_CHECKING:
    from mirembed.evaluate import Scores


def evaluate(
    dataset: Dataset = None,
    store: StoreFolder = DEFAULT_STORE,
    cv: Annotated[int | None, typer.Option(metavar="N", help="Number of folds; default: 10.")] = None,
    folds: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="random, stratified, grouped or official splits. Default: stratified; for regression random.",
        ),
    ] = None,
    similarity: Similarities = None,
    approach: Approaches = None,
    label_similarity: LabelSimilarity = None,
    learner: Learner = "svm",
    epochs: Epochs = 400,
    batch: Batch = 32,
    seed: Annotated[
        list[int] | None,
        typer.Option(metavar="N", min=0, help="Fixes folds, weights and excerpts; repeatable. Default: 0."),
    ] = None,
    normalise: NormaliseWith = "training",
    keep_models: Annotated[
        bool, typer.Option("--keep-models", help="Keep the models of all folds in the run.")
    ] = False,
    exclude: Exclude = None,
    jobs: Jobs = None,
    backend_jobs: BackendJobs = "local",
    scheduler: Scheduler = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Cross-validate: network, normalisation and learner are fitted anew inside every fold.

    Prints the mean over the folds with its 95 % interval (Nadeau & Bengio). Every out-of-fold prediction is kept.
    """
    from mirembed.cli.console import ConsoleProgress, print_json
    from mirembed.config import Experiment, check_normalise, choose_approaches, choose_device
    from mirembed.datasets import exclude_tracks, official_splits
    from mirembed.evaluate import choose_evaluation
    from mirembed.evaluate import evaluate as run
    from mirembed.progress import counted
    from mirembed.specs import Spec
    from mirembed.store import Store
    from mirembed.store.frames import open_tracks

    registry = options.discover()
    place = Store(store)
    features = place.find(options.parse_dataset(dataset))
    approaches = choose_approaches(approach or [], similarity or [], label_similarity)
    with ConsoleProgress() as progress, options.engine(backend_jobs, scheduler, jobs):
        tracks = open_tracks(features, progress)
        official = official_splits(registry, Spec.parse(tracks.info.spec))
        tracks = exclude_tracks(registry, tracks, exclude, progress)
        evaluation = choose_evaluation(tracks.task, folds, cv, official, seed, keep_models)
        result, scores = run(
            tracks,
            Experiment(
                approaches,
                Spec.parse(learner),
                epochs,
                batch,
                check_normalise(normalise),
                choose_device(device),
            ),
            evaluation,
            registry,
            place.runs,
            jobs=options.jobs_or_cores(jobs),
            command=options.command_line(),
            progress=progress,
        )
    if json:
        print_json(
            {
                "dataset": tracks.info.spec,
                "n_tracks": len(tracks.ids),
                "excluded": dict(tracks.excluded),
                "folds": evaluation.scheme,
                "run": str(result.folder),
                "approaches": {one.approach: one.to_json() for one in scores},
            }
        )
        return
    title = f"{tracks.info.spec}: {len(tracks.ids)} tracks, {evaluation.describe()}, {counted(epochs, 'epoch')}"
    _print_scores(scores, title)
    typer.echo("95 % intervals: of means over folds by Nadeau & Bengio, of pooled scores by bootstrap over tracks.")
    typer.echo(tracks.chance())
    typer.echo(f"predictions, folds and curves: {result.folder}")


def _print_scores(scores: list[Scores], title: str) -> None:
    from mirembed.cli.console import print_table

    names = list(scores[0].intervals)
    rows = [[s.approach, *(str(s.intervals[n]) for n in names), str(s.pooled[names[0]])] for s in scores]
    headings = {"macro_f1": "macro-F1", "r_squared": "r²", "r2": "R²"}
    print_table(["approach", *(headings.get(n, n) for n in names), f"pooled {names[0]}"], rows, title)
    if scores[0].targets:
        targets = list(scores[0].targets)
        print_table(
            ["r by target", *(s.approach for s in scores)],
            [[target, *(str(s.targets[target]) for s in scores)] for target in targets],
        )
    for s in scores:
        if s.undefined:
            typer.echo(
                f"{s.approach}: r is undefined in {s.undefined} folds and targets (constant prediction); scored 0"
            )
