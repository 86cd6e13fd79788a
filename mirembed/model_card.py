"""The card of a saved model: what it was trained on and for, its scores, its licenses, and how to use it.

The card is the file ``README.md`` in the folder of the model. The model's digests do not cover it, so it may be edited.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from mirembed.config.approaches import UNTRAINED_BASELINES
from mirembed.datasets.catalog import card_of
from mirembed.errors import MirembedError
from mirembed.features.info import FeaturesInfo, distinct_parts
from mirembed.hookspecs import Card, Classification, Regression, Tags, Task
from mirembed.models.saved import features_in, read_manifest
from mirembed.progress import counted, first_names
from mirembed.provenance import recorded_plugins
from mirembed.registry import Registry
from mirembed.runs.folder import RunFolder, list_runs
from mirembed.runs.scores import column_kind, column_names
from mirembed.runs.summary import describe_folds
from mirembed.specs import Spec
from mirembed.statistics.intervals import Interval
from mirembed.statistics.metrics import headline, metric_named
from mirembed.store import Store
from mirembed.store.files import writing
from mirembed.store.rows import task_from_json

CARD = "README.md"

_SETTINGS = ("epochs", "batch", "optimizer", "excerpt", "deltas", "normalize", "ensemble")
"""Settings that an evaluation has to share with a model; engine and device change only the rounding."""

_MANY = 20
"""Of more classes, tags or targets, only the first are named."""

_URL = "https://doi.org/10.1155/2018/1935938"


@dataclass(frozen=True)
class Evaluation:
    """The score of a finished run that trained and tested models as a saved one was trained.

    Attributes
    ----------
    run, folds : str
    metric : str
        The headline.
    score : Interval
        Mean over the folds.
    """

    run: str
    folds: str
    metric: str
    score: Interval


def write_card(folder: Path, store: Store, registry: Registry, path: Path | None = None) -> Path:
    """Write the card of a model, and return its path.

    Parameters
    ----------
    folder : pathlib.Path
        Of the model.
    store : Store
        Its runs have the scores.
    registry : Registry
        Has the dataset's license and citation.
    path : pathlib.Path or None
        None: the card in the folder of the model.

    Raises
    ------
    ModelError
        If the folder is not a model, or has another format.
    StoreWriteError
        If the card cannot be written.
    """
    path = path or folder / CARD
    text = model_card(folder, registry, evaluations(folder, store.runs))
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def model_card(folder: Path, registry: Registry, scores: Sequence[Evaluation] = ()) -> str:
    """Return the card of a model as Markdown; see `write_card`."""
    manifest = read_manifest(folder)
    made, task = manifest["provenance"], task_from_json(manifest["task"])
    dataset, parts = made["dataset"], _parts(folder)
    card = _dataset_card(registry, dataset["spec"])
    sections = {
        "What it is for": _purpose(manifest, parts, task),
        "What it was trained on": _training(manifest, parts, task, card),
        "How good it is": _scores(scores, made),
        "How to use it": _use(folder.name, task),
        "Licenses": _licenses(manifest, card),
        "Citing": _citing(card),
    }
    title = f"# {folder.name}\n\nA music embedding model made by mirembed {_version(made)}.\n"
    return "\n".join([title, *(f"## {heading}\n\n{text}\n" for heading, text in sections.items())])


def _parts(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Return the manifests of the members of a combined model, or the only one, by the names of their methods."""
    manifest = read_manifest(folder)
    if "members" not in manifest:
        return {manifest["provenance"]["approach"]: manifest}
    return {one["name"]: read_manifest(folder / one["folder"]) for one in manifest["members"]}


def evaluations(folder: Path, runs: Path) -> list[Evaluation]:
    """Return the finished runs of a store that evaluated the method of a model on its dataset.

    Damaged runs are left out, and so are models and runs that chose parameters with ``--select``, which may differ in
    every fold.
    """
    manifest, parts = read_manifest(folder), list(_parts(folder).values())
    found = []
    for run in list_runs(runs):
        with contextlib.suppress(MirembedError, KeyError, OSError, TypeError, ValueError):
            found += [
                one for member in run.members or [run] if (one := _evaluation(manifest, parts, member)) is not None
            ]
    return found


def _evaluation(manifest: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], run: RunFolder) -> Evaluation | None:
    content = run.manifest
    configuration = content["configuration"]
    name = _method_of(manifest, parts, configuration) if content["finished"] else None
    if name is None or name not in (scores := run.read_scores()):
        return None
    metric = headline(task_from_json(configuration["task"]), configuration["metric"]).name
    folds = describe_folds(
        configuration["folds"],
        cv=configuration["cv"],
        splits=configuration["splits"],
        n_seeds=len(configuration["seeds"]),
        train_size=configuration["train_size"],
    )
    return Evaluation(run.folder.name, folds, metric, Interval(**scores[name][metric]))


def _method_of(
    manifest: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], configuration: Mapping[str, Any]
) -> str | None:
    """Return the method of a run that a model is one of; None if there is none."""
    made = manifest["provenance"]
    settings = made["settings"]
    if (
        made["dataset"]["digest"] != configuration["dataset"]["digest"]
        or "selection" in made
        or "network_from" in made
        or configuration["select"]
        or configuration["train_size"] != 1
        or any(settings.get(name) != configuration.get(name) for name in _SETTINGS)
    ):
        return None
    methods = configuration["methods"]
    names = [next((one["name"] for one in methods if _is_of(part, one, configuration)), None) for part in parts]
    if "members" not in manifest:
        return names[0]
    [own] = (one for one in settings["methods"] if one["name"] == made["approach"])
    for method in methods:
        if sorted(method.get("members", ())) == sorted(map(str, names)) and method["stacked"] == own["stacked"]:
            return str(method["name"])
    return None


def _is_of(manifest: Mapping[str, Any], method: Mapping[str, Any], configuration: Mapping[str, Any]) -> bool:
    """Whether a model of one network or baseline is of a method of a run."""
    made = manifest["provenance"]
    name, learner, features, network = (method[key] for key in ("approach", "learner", "features", "network"))
    if name != made["approach"] or features is None or (network is None) != (manifest["network"] is None):
        return False
    pairs = [
        (made["learner"], None if learner is None else configuration["learners"][learner]),
        *(
            (made["settings"]["approaches"][name].get(role), configuration["approaches"][name].get(role))
            for role in ("similarity", "label_similarity")
        ),
    ]
    if network is not None:
        pairs.append((manifest["network"]["plugin"], configuration["networks"][network]["plugin"]))
    known = FeaturesInfo.from_json(configuration["features"][features]).digests
    of_model = [part.digest for part in distinct_parts(features_in(manifest))]
    return known == of_model and all(_identity(one) == _identity(other) for one, other in pairs)


def _identity(plugin: Mapping[str, Any] | None) -> list[Any]:
    return [plugin.get(key) for key in ("distribution", "name", "parameters")] if plugin else []


def _dataset_card(registry: Registry, spec: str) -> Card | None:
    try:
        return card_of(registry, Spec.parse(spec))
    except MirembedError:
        return None


# ---- sections -------------------------------------------------------------------------------------------------------


def _purpose(manifest: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]], task: Task) -> str:
    made = manifest["provenance"]
    is_combined = "members" in manifest
    learner = made.get("learner")
    by = "the output layer of its network" if learner is None else f"the learner `{learner['spec']}`"
    if is_combined:
        by = "the mean of the predictions of its members"
    lines = [
        f"It turns the audio of a track into an embedding of {manifest['units']} values, and predicts "
        f"{_predicted(task)} with {by}.\n",
        "| | |\n|---|---|",
        f"| approach | `{made['approach']}` |",
        *(f"| features | `{one.spec}`: {counted(one.values, 'value')} per frame |" for one in features_in(manifest)),
        *([] if is_combined else [f"| network | {_network(manifest)} |"]),
        f"| similar tracks | ranked by {_similarity(made)} |",
    ]
    if is_combined:
        lines += ["", "| member | weight | features | network | learner |", "|---|---|---|---|---|"]
        pairs = zip(manifest["members"], parts.values(), strict=True)
        lines += [f"| `{one['name']}` | {one['weight']:.3g} | {_in_row(part)} |" for one, part in pairs]
    return "\n".join(lines)


def _in_row(manifest: Mapping[str, Any]) -> str:
    """Return features, network and learner of a member as cells of a table."""
    [features] = features_in(manifest)
    learner = manifest["provenance"]["learner"]
    return " | ".join([f"`{features.spec}`", _network(manifest), f"`{learner['spec']}`" if learner else "none"])


def _network(manifest: Mapping[str, Any]) -> str:
    network = manifest["network"]
    return "none: mean and standard deviation over time" if network is None else f"`{network['spec']}`"


def _predicted(task: Task) -> str:
    kind = {Classification: "one of ", Tags: "any of ", Regression: ""}[type(task)]
    return kind + first_names(column_names(task), _MANY)


def _similarity(made: Mapping[str, Any]) -> str:
    learned = (made["settings"]["approaches"].get(made["approach"]) or {}).get("similarity")
    return f"the learned similarity `{learned['spec']}`" if learned else "cosine similarity"


def _training(
    manifest: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]], task: Task, card: Card | None
) -> str:
    made = manifest["provenance"]
    dataset, settings = made["dataset"], made["settings"]
    title = f"`{dataset['spec']}`" + (f" ({card.title})" if card and card.n_tracks else "")  # not of the user's files
    labels = counted(len(column_names(task)), column_kind(task))
    n_excluded = len(dataset["excluded"])
    excluded = f", without {counted(n_excluded, 'track')} with known faults" if n_excluded else ""
    n_fitted = len(manifest["learner_recordings"] or manifest["recordings"])
    tracks = counted(dataset["n_tracks"], "track")
    tracks = f"All {tracks}" if n_fitted == dataset["n_tracks"] else f"{n_fitted} of {tracks}"
    lines = [f"{tracks} of {title}{excluded}, with {labels}."]
    if origin := made.get("network_from"):
        source = f"{origin['model']}, trained on {origin['dataset']['spec']}"
        lines.append(f"Only its learner was fitted; the network is that of {source}.")
    trained = any(part["provenance"]["approach"] not in UNTRAINED_BASELINES for part in parts.values())
    training = (
        f"{counted(settings['epochs'], 'epoch')} with `{settings['optimizer']}`"
        if trained
        else "No network was trained"
    )
    lines.append(f"{training}, seed {made['seed']}. Made by:")
    lines[-1] += f"\n\n```console\n$ {made['command']}\n```"
    return " ".join(lines)


def _scores(scores: Sequence[Evaluation], made: Mapping[str, Any]) -> str:
    if not scores:
        return (
            "No run in the store has evaluated these settings. Predictions for the tracks that the model was fitted to "
            f"do not show how good it is; `mirembed evaluate --dataset {made['dataset']['spec']}`, with the same "
            "settings, does."
        )
    rows = [f"| {one.run} | {one.folds} | {metric_named(one.metric).label} | {one.score} |" for one in scores]
    return "\n".join(
        [
            "Scores of models trained with the same settings on part of the tracks and tested on the rest:\n",
            "| run | folds | metric | mean and 95 % interval |",
            "|---|---|---|---|",
            *rows,
        ]
    )


def _use(name: str, task: Task) -> str:
    what = "the targets" if isinstance(task, Regression) else "the labels"
    return (
        f"```console\n$ mirembed embed {name} FOLDER --out embeddings.csv\n$ mirembed predict {name} FOLDER\n"
        f"$ mirembed export {name} --onnx {name}.onnx\n```\n\n"
        "The first command computes the embeddings of all audio files in a folder, the second predicts "
        f"{what}, and the third writes the network for other programs. In Python:\n\n"
        f'```python\nimport mirembed\n\nmodel = mirembed.load("{name}")\nvectors = model.embed(["song.mp3"])\n```'
    )


def _licenses(manifest: Mapping[str, Any], card: Card | None) -> str:
    distributions = dict.fromkeys(["mirembed", *(plugin["distribution"] for plugin in recorded_plugins(manifest))])
    lines = [f"- Code of {name}: {_license(name)}" for name in distributions]
    lines.append(f"- Dataset: {card.license if card and card.license else 'unknown'}")
    return "\n".join(lines) + (
        "\n\nThe weights were computed from the dataset. Check what its license allows before you share the model."
    )


def _license(distribution: str) -> str:
    try:
        found: Any = metadata(distribution)
    except PackageNotFoundError:
        return "not installed here"
    return str(found.get("License-Expression") or found.get("License") or "not stated")


def _citing(card: Card | None) -> str:
    method = (
        "The method: J. Jakubik and H. Kwaśnicka, Similarity-Based Summarization of Music Files for Support Vector "
        f"Machines, Complexity, 2018, {_URL}."
    )
    return method + (f" The dataset:\n\n```bibtex\n{card.citation}\n```" if card and card.citation else "")


def _version(made: Mapping[str, Any]) -> str:
    return str(made.get("versions", {}).get("mirembed", ""))
