"""What a report holds, section by section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mirembed.errors import MirembedError
from mirembed.hookspecs import Classification
from mirembed.progress import counted
from mirembed.registry import Registry
from mirembed.reports import curves, embeddings, kernels, maps, predictions, score_tables, significance, similarities
from mirembed.reports.page import Part, Section
from mirembed.reports.scoring import RunScores
from mirembed.reports.style import Figure
from mirembed.reports.tables import Cell, Table
from mirembed.runs.record import RunRecord
from mirembed.runs.summary import describe_chance
from mirembed.specs import Spec
from mirembed.store import Store

_Item = TypeVar("_Item")

_MANY_ROWS = 50
"""A longer table opens when it is clicked."""

_MANY_NOTES = 12


def part(scores: RunScores, registry: Registry) -> Part:
    """Return everything that the page says of a run."""
    run = scores.run
    sections = [Section("Dataset", tables=[dataset_table([run])])]
    if scores.by_fold:
        sections += [_scores(scores), _curves(scores), _learners(scores), _significance(scores)]
        sections += [_predictions(run), *_embeddings(run, registry)]
    elif (loss := curves.loss_figure(run)) is not None:
        sections.append(Section("Learning curves", figures=[loss]))
    sections += [_notes(run), _provenance(run)]
    return Part(run.folder.name, title(run), _progress(run), [section for section in sections if not section.empty])


def title(run: RunRecord) -> str:
    """Return what a run is about, in a few words."""
    configuration = run.configuration
    return f"{configuration['dataset']['spec']}: {run.sizes.describe(run.describe_folds())}"


def dataset_table(runs: Sequence[RunRecord]) -> Table:
    """Return what was evaluated on: tracks, hours, labels, task and folds."""
    rows, records = [], []
    for run in runs:
        task, hours = run.task, _hours(run)
        classes = isinstance(task, Classification)
        names = task.classes if isinstance(task, Classification) else [target.name for target in task.targets]
        record = {
            "dataset": run.configuration["dataset"]["spec"],
            "tracks": run.configuration["n_tracks"],
            "excluded": len(run.configuration["excluded"]),
            "hours": hours,
            "task": "classification" if classes else "regression",
            "n_labels": len(names),
            "labels": ", ".join(names),
            "folds": run.describe_folds(),
        }
        records.append(record)
        cells = [str(value) for value in record.values()]
        cells[3] = "unknown" if hours is None else f"{hours:.2f}"
        rows.append([Cell(cell) for cell in cells])
    columns = ["dataset", "tracks", "excluded", "hours", "task", "number of labels", "labels", "folds"]
    return Table("datasets", "What was evaluated on", "Tracks of the run, after exclusions.", columns, rows, records)


def _scores(scores: RunScores) -> Section:
    folded = _there(score_tables.squared_table(scores), score_tables.metrics_table(scores))
    return Section("Scores", _beside_scores(scores.run), tables=[score_tables.best_table(scores)], folded=folded)


def _beside_scores(run: RunRecord) -> list[str]:
    """Return what has to be known before a score is read: what guessing scores, and what flatters or blurs."""
    return [describe_chance(run.task, run.configuration["chance"]), *run.warnings]


def _curves(scores: RunScores) -> Section:
    learned = curves.learning_curves(scores.run)
    said = [curves.explained(scores.run)] if learned else []
    if (epoch := curves.only_checkpoint(learned)) is not None:
        learned, said = {}, [curves.single_point(epoch)]
    return Section(
        "Learning curves",
        said,
        figures=[*curves.curve_figures(scores, learned), *_there(curves.loss_figure(scores.run))],
        folded=_there(curves.curve_table(scores.run, learned)),
    )


def _learners(scores: RunScores) -> Section:
    return Section(
        _learners_title(scores.run),
        tables=_there(score_tables.kernel_table(scores)),
        figures=_there(kernels.kernel_figure(scores)),
        folded=_there(significance.kernel_tests(scores)),
    )


def _significance(scores: RunScores) -> Section:
    tests = _there(significance.significance_table(scores))
    many = any(len(table.rows) > _MANY_ROWS for table in tests)
    return Section("Significance", tables=[] if many else tests, folded=tests if many else [])


def _there(*items: _Item | None) -> list[_Item]:
    """Return the items that are there."""
    return [item for item in items if item is not None]


def _learners_title(run: RunRecord) -> str:
    """Return the question that the matrix of learners answers: about kernels, where they differ in that."""
    kernels = {str(plugin["parameters"].get("kernel")) for plugin in run.configuration["learners"].values()}
    return "Does the kernel have to match?" if len(kernels) > 1 else "Learners"


def _predictions(run: RunRecord) -> Section:
    figures = [*predictions.confusion_figures(run), *predictions.scatter_figures(run)]
    return Section("Predictions", figures=figures, folded=predictions.confusion_tables(run))


def _embeddings(run: RunRecord, registry: Registry) -> list[Section]:
    embedded = embeddings.read_embedded(run)
    found = list(similarities.similarity_figures(run, embedded, registry))
    drawn = [one for one in found if isinstance(one, Figure)]
    said = [one for one in found if isinstance(one, str)]
    method = predictions.shown_method(run)
    drawn_maps = maps.map_figures(run, embedded, method.approach.name if method else "")
    return [
        Section(
            "Similarities of labels and of embeddings",
            [*([similarities.EXPLAINED] if drawn else []), *said],
            figures=drawn,
        ),
        Section("Maps of the embeddings", [maps.EXPLAINED] if drawn_maps else [], figures=drawn_maps),
    ]


def _notes(run: RunRecord) -> Section:
    notes = [note for note in run.notes if not run.predictions or note not in run.warnings]
    more = notes[_MANY_NOTES:]
    texts = {f"{len(more)} more": "\n".join(more)} if more else {}
    return Section("Notes", notes[:_MANY_NOTES], texts=texts)


def _provenance(run: RunRecord) -> Section:
    configuration = run.configuration
    lines = {
        "command": run.manifest.get("command", ""),
        "run": run.folder.name,
        "started": run.manifest.get("started", ""),
        "finished": run.manifest["finished"] or "not yet",
        "dataset digest": configuration["dataset"]["digest"],
        "seeds": ", ".join(map(str, configuration["seeds"])),
        **{name: str(configuration.get(name, "")) for name in ("epochs", "batch", "normalize", "engine", "device")},
        "versions": ", ".join(f"{name} {version}" for name, version in configuration.get("versions", {}).items()),
        **_plugins(configuration),
    }
    rows = [[Cell(name), Cell(text)] for name, text in lines.items()]
    records = [{"what": name, "value": text} for name, text in lines.items()]
    table = Table(
        "provenance", "Where the numbers come from", "From manifest.json of the run.", ["", ""], rows, records
    )
    texts = {"experiment.toml": run.experiment} if run.experiment is not None else {}
    return Section("Provenance", tables=[table], texts=texts)


def _plugins(configuration: Mapping[str, Any]) -> dict[str, str]:
    """Return every plugin that took part with its distribution and parameters."""
    found = {"dataset": configuration["dataset"].get("plugin") or {}}
    for name, roles in configuration["approaches"].items():
        found |= {f"{name}, {role.replace('_', ' ')}": plugin for role, plugin in roles.items() if plugin}
    found |= {f"learner {spec}": plugin for spec, plugin in configuration["learners"].items() if plugin}
    return {name: _plugin(plugin) for name, plugin in found.items() if plugin.get("name")}


def _plugin(plugin: Mapping[str, Any]) -> str:
    parameters = ", ".join(f"{name}={value}" for name, value in score_tables.typed_parameters(plugin).items())
    where = f"{plugin.get('distribution', 'unknown')} {plugin.get('version', '')}".strip()
    return f"{plugin['name']} of {where}" + (f" ({parameters})" if parameters else "")


def _progress(run: RunRecord) -> str:
    if run.finished:
        return ""
    shown = (
        f"Scores are those of the {counted(run.n_folds, 'fold')} that every method has finished, and will change"
        if run.n_folds
        else "There are no scores before every method has finished the same fold"
    )
    return (
        f"This run is going on: {run.n_done} of {run.n_trainings} trainings are done. {shown}; "
        "nothing is tested before the end."
    )


def _hours(run: RunRecord) -> float | None:
    """Return the duration of the run's tracks, if the store that the run lies in still holds all of them."""
    root = next((folder for folder in run.folder.absolute().parents if (folder / "store.json").exists()), None)
    if root is None:
        return None
    try:
        index = _dataset_index(root, run.configuration["dataset"]["spec"])
    except MirembedError:
        return None
    excluded = set(run.configuration["excluded"])
    durations = [seconds for track, seconds in index.items() if track not in excluded]
    tested = set(run.folds["id"].to_pylist())
    if len(durations) != run.configuration["n_tracks"] or not tested <= set(index):
        return None
    return sum(durations) / 3600


def _dataset_index(root: Path, spec: str) -> dict[str, float]:
    dataset = Store(root).dataset(Spec.parse(spec))
    index = dataset.index() if dataset.exists else None
    return {} if index is None else dict(zip(index["id"].to_pylist(), index["duration"].to_pylist(), strict=True))
