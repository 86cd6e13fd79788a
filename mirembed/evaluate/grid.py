"""Several evaluations, each on one dataset or on several, as one experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mirembed.config import EvaluationSettings, Experiment, on_engine, write_experiment
from mirembed.datasets.catalog import exclude_tracks, official_splits
from mirembed.errors import SpecError, StoreError
from mirembed.evaluate.choices import Evaluation, choose_evaluation
from mirembed.evaluate.evaluation import evaluate
from mirembed.evaluate.planning import draw_folds
from mirembed.evaluate.sizes import Sizes, describe_chance
from mirembed.evaluate.suppliers import require_suppliers
from mirembed.progress import Progress, Silent, counted
from mirembed.provenance import versions
from mirembed.registry import Registry
from mirembed.runs.folder import Run
from mirembed.runs.scores import Scores
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed.store.files import read_json
from mirembed.store.root import slug
from mirembed.store.tracks import Tracks, open_tracks


@dataclass(frozen=True)
class Member:
    """One evaluation on one dataset, ready to begin.

    Attributes
    ----------
    name : str
        Of its folder in the experiment's.
    settings : EvaluationSettings
        With this dataset, and with what was left open resolved.
    tracks : Tracks
    experiment : Experiment
    evaluation : Evaluation
    sizes : Sizes
    """

    name: str
    settings: EvaluationSettings
    tracks: Tracks
    experiment: Experiment
    evaluation: Evaluation
    sizes: Sizes

    def on_engine(self, registry: Registry, note: Callable[[str], None]) -> Member:
        """Return the evaluation with its engine chosen; see `mirembed.config.on_engine`."""
        experiment = on_engine(self.experiment, self.settings.engine, registry, note)
        return replace(self, experiment=experiment, settings=replace(self.settings, engine=experiment.engine))

    def describe(self) -> str:
        """Return dataset, folds and epochs in a line."""
        epochs = counted(self.experiment.epochs, "epoch")
        return f"{self.tracks.info.spec}: {self.sizes.describe(self.evaluation.describe())}, {epochs}"


@dataclass(frozen=True)
class Result:
    """A finished evaluation."""

    member: Member
    run: Run
    scores: list[Scores]

    @property
    def chance(self) -> float:
        """The headline metric of the approach ``chance``, whether it was evaluated or not."""
        return float(self.run.manifest["configuration"]["chance"])

    @property
    def notes(self) -> list[str]:
        """What was said of tracks, folds and models, as ``notes.json`` has it."""
        notes: list[str] = read_json(self.run.folder / "notes.json")
        return notes

    def describe_chance(self) -> str:
        """Return what guessing scores, in a sentence."""
        return describe_chance(self.member.tracks.task, self.chance)

    def to_json(self) -> dict[str, Any]:
        """Return the scores as JSON, and what they are of."""
        return {
            "dataset": self.member.tracks.info.spec,
            "n_tracks": len(self.member.tracks.ids),
            "excluded": dict(self.member.tracks.excluded),
            "n_used": self.member.sizes.n_used,
            "n_train": self.member.sizes.n_train,
            "n_test": self.member.sizes.n_test,
            "folds": self.member.evaluation.scheme,
            "n_folds": self.member.evaluation.n_parts,
            "seeds": list(self.member.evaluation.seeds),
            "epochs": self.member.experiment.epochs,
            "chance": self.chance,
            "notes": self.notes,
            "run": str(self.run.folder),
            "approaches": {one.method: one.to_json() for one in self.scores},
        }


def prepare(
    settings: Sequence[EvaluationSettings],
    store: Store,
    registry: Registry,
    *,
    all_needed: bool = True,
    progress: Progress | None = None,
) -> list[Member]:
    """Open the datasets of an experiment and check its settings, before anything is trained.

    Parameters
    ----------
    settings : sequence of EvaluationSettings
        Their names differ.
    store : Store
    registry : Registry
    all_needed : bool
        Whether a dataset that the store does not have is an error; otherwise it is left out, and said.

    Raises
    ------
    MirembedError
        If a setting is wrong, or a dataset is not there.
    """
    progress = progress or Silent()
    opened: dict[str, Tracks | None] = {}
    said: set[str] = set()

    def note(text: str) -> None:
        if text not in said:
            said.add(text)
            progress.note(text)

    members: list[Member] = []
    for one in settings:
        experiment = one.experiment()
        require_suppliers(experiment, registry, store.runs)
        experiment.describe(registry)
        for dataset in dict.fromkeys(one.dataset or [""]):
            if dataset not in opened:
                opened[dataset] = _open(dataset, store, all_needed, progress)
            tracks = opened[dataset]
            if tracks is not None:
                members.append(_member(one, experiment, tracks, registry, progress))
    if not members:
        wanted = ", ".join(name for name in opened if name)
        raise StoreError(f"the store {store.root} has none of {wanted}; run `mirembed extract --dataset NAME` first")
    members = [member.on_engine(registry, note) for member in members]
    for name in (names := [member.name for member in members]):
        if names.count(name) > 1:
            raise SpecError(f"two evaluations are both called {name}; give each table [[evaluation]] its own name")
    return members


def evaluate_all(
    members: Sequence[Member],
    store: Store,
    registry: Registry,
    *,
    jobs: int,
    command: str = "",
    repeats: Run | None = None,
    progress: Progress | None = None,
) -> tuple[Path, list[Result]]:
    """Run the evaluations one after the other; return the folder of all and the results.

    A single evaluation is a run of its own. Several stand in one folder, which says what it is made of; an
    interrupted experiment goes on where it stopped.

    Parameters
    ----------
    members : sequence of Member
    jobs : int
    command : str
        As it was typed, for the manifests.
    repeats : Run or None
        The run or experiment whose settings these are: where its numbers cannot come out again, that is said.

    Raises
    ------
    MirembedError
        If a training or a write fails.
    """
    progress = progress or Silent()

    def run(member: Member, folder: Path | None) -> Result:
        done = evaluate(
            member.tracks,
            member.experiment,
            member.evaluation,
            registry,
            store.runs,
            jobs=jobs,
            command=command,
            progress=progress,
            folder=folder,
            repeats=repeats if repeats is None or folder is None else Run(repeats.folder / member.name),
            experiment_file=write_experiment([member.settings]),
        )
        return Result(member, *done)

    if len(members) == 1:
        result = run(members[0], None)
        return result.run.folder, [result]
    text = write_experiment([replace(member.settings, name=member.name) for member in members])
    configuration = {
        "grid": [member.name for member in members],
        "experiment": text,
        "datasets": {member.name: member.tracks.digest for member in members},
        "versions": versions(),
    }
    whole = Run.open(store.runs, "experiment", configuration, command)
    with whole.lock():
        whole.write_experiment(text)
        results = []
        for number, member in enumerate(members, 1):
            progress.note(f"evaluation {number} of {len(members)}: {member.describe()}")
            results.append(run(member, whole.folder / member.name))
        whole.finish()
    return whole.folder, results


def _open(dataset: str, store: Store, needed: bool, progress: Progress) -> Tracks | None:
    spec = Spec.parse(dataset) if dataset else None
    try:
        features = store.find(spec)
    except StoreError as error:
        if needed:
            raise
        progress.note(f"warning: {dataset} is left out: {error}")
        return None
    return open_tracks(features, progress)


def _member(
    settings: EvaluationSettings, experiment: Experiment, tracks: Tracks, registry: Registry, progress: Progress
) -> Member:
    spec = tracks.info.spec
    official = official_splits(registry, Spec.parse(spec), tracks.info.plugin)
    tracks = exclude_tracks(registry, tracks, settings.exclude, progress)
    evaluation = choose_evaluation(
        tracks.task,
        official,
        folds=settings.folds,
        cv=settings.cv,
        splits=settings.splits,
        test_size=settings.test_size,
        seeds=settings.seed,
        keep_models=settings.keep_models,
        keep_embeddings=settings.keep_embeddings,
        checkpoint_every=settings.checkpoint_every,
    )
    name = settings.name if settings.name and len(settings.dataset) < 2 else f"{settings.name}-{spec}".strip("-")
    folds, _ = draw_folds(tracks, evaluation)  # tracks that cannot be split are an error before anything is trained
    resolved = replace(
        settings,
        dataset=(spec,),
        approach=tuple(approach.name for approach in experiment.approaches),
        similarity=(),
        folds=evaluation.scheme,
        device=experiment.device,
        **_resolved(evaluation),
    )
    return Member(slug(name), resolved, tracks, experiment, evaluation, Sizes.of(folds, len(tracks.ids)))


def _resolved(evaluation: Evaluation) -> Mapping[str, Any]:
    """Return what says how the tracks are split, with what was left to a default."""
    if evaluation.official is not None:
        return {}
    if evaluation.n_splits is not None:
        return {"splits": evaluation.n_splits, "test_size": evaluation.test_size}
    return {"cv": evaluation.n_folds}
