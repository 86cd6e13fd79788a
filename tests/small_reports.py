"""Small runs with everything that a report shows; nothing is trained, and all numbers are made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mirembed import Classification, Regression, Tags, Target, Task
from mirembed.config.approaches import Approach, Method, cross
from mirembed.config.comparisons import Comparisons
from mirembed.runs.folder import FORMAT
from mirembed.runs.tables import TRAINED
from mirembed.specs import Spec
from mirembed.statistics.retrieval import QUERY_SCORES
from mirembed.store.files import write_json, write_table
from mirembed.store.root import slug
from mirembed.store.rows import tags_of, task_to_json

CLASSES = Classification(("blues", "jazz", "rock"))
TARGETS = Regression((Target("valence", 1, 9), Target("arousal", 1, 9)))
TAGS = Tags(("calm", "guitar", "loud"))
EPOCHS = (10, 20, 30)
BASELINES = ("chance", "stats", "untrained")

PARAMETERS: dict[str, dict[str, Any]] = {"rbf": {"gamma": 1.0}, "svm": {"kernel": "rbf", "gamma": None}}
"""The parameters of plugins with their defaults."""

COST = {"wall_seconds": 2.0, "cpu_seconds": 1.5, "peak_memory": 10**8, "sessions": 1, "processor": "any"}
"""What a training of an unfinished run took."""

SKILL = {"nn": 0.75, "fl": 0.7, "rbf-sl": 0.98, "cosine-sl": 0.72, "stats": 0.6, "chance": 0.0}
"""How close the predictions of each approach are to the truth, from 0 to 1."""


def methods(
    approaches: Sequence[str], learners: Sequence[str], networks: Sequence[str], features: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the methods of a run as in its manifest."""
    return [
        {
            "name": method.name,
            "approach": method.approach.name,
            "learner": None if method.learner is None else str(method.learner),
            "network": method.network,
            "features": method.features,
        }
        for method in _combined(approaches, learners, networks, features)
    ]


def _combined(
    approaches: Sequence[str], learners: Sequence[str], networks: Sequence[str], features: Sequence[str]
) -> tuple[Method, ...]:
    return cross(features, networks, map(Approach.parse, approaches), list(map(Spec.parse, learners)))


def write_report_run(
    folder: Path,
    task: Task = CLASSES,
    *,
    skill: Mapping[str, float] = SKILL,
    learners: Sequence[str] = ("svm",),
    networks: Sequence[str] = ("gru",),
    features: Sequence[str] = ("logmel",),
    n_tracks: int = 60,
    n_folds: int = 5,
    splits: int | None = None,
    seeds: Sequence[int] = (0,),
    ids: Sequence[str] | None = None,
    done: int | None = None,
    official: str | None = None,
    n_official: int = 1,
    notes: Sequence[str] = (),
    probabilities: bool = False,
    retrieval: bool = False,
    selection: Sequence[Mapping[str, Any]] = (),
    cost: Sequence[Mapping[str, Any]] = (),
    **configuration: Any,
) -> Path:
    """Write a run; with ``done``, an unfinished one in which every method has finished that many folds.

    ``official`` names ``n_official`` official splits, the same for every seed. With ``probabilities`` and
    ``retrieval``, predictions have these columns. ``selection`` and ``cost`` are the rows of these tables.
    """
    rng = np.random.default_rng(7)
    names = list(ids or [f"{number:03d}" for number in range(n_tracks)])
    truth = values = None
    if isinstance(task, Regression):
        values = rng.uniform(1, 9, (n_tracks, len(task.targets)))
    else:
        shape = (n_tracks, len(task.classes)) if isinstance(task, Tags) else n_tracks
        truth = rng.integers(0, 2 if isinstance(task, Tags) else len(task.classes), shape)
    folds = _tests(rng, names, n_folds, splits, seeds)
    if official:
        once = _tests(rng, names, n_folds, n_official, seeds[:1])
        folds = [(seed, fold, track) for seed in seeds for _, fold, track in once]
    described = methods(list(skill), learners, networks, features)
    rows = [
        {**_method(method), "seed": seed, "fold": fold, "epoch": epoch, "id": names[track]}
        | _prediction(rng, task, truth, values, track, skill[method["approach"]] * epoch / EPOCHS[-1])
        for method in described
        for epoch in EPOCHS
        for seed, fold, track in folds
    ]
    write_table(
        folder / "folds.parquet",
        pa.Table.from_pylist([{"seed": s, "id": names[track], "fold": f} for s, f, track in folds]),
    )
    last = [{k: v for k, v in row.items() if k != "epoch"} for row in rows if row["epoch"] == EPOCHS[-1]]
    drawn = np.random.default_rng(8)
    last = [
        row
        | (_probabilities(drawn, task, row["approach"]) if probabilities else {})
        | (_retrieval(drawn, row["approach"]) if retrieval else {})
        for row in last
    ]
    if selection:
        write_table(folder / "selection.parquet", pa.Table.from_pylist(list(selection)))
    if cost:
        write_table(folder / "cost.parquet", pa.Table.from_pylist(list(cost)))
    checkpoints = [row for row in rows if row["approach"] not in BASELINES]
    trained = [_network(method) for method in described if method["approach"] not in BASELINES]
    first = list({(approach, *rest): learner for approach, learner, *rest in trained[::-1]}.items())[::-1]
    kept = [(approach, learner, *rest) for (approach, *rest), learner in first]
    if done is None:
        write_table(folder / "predictions.parquet", _table(last[::-1]))
        write_table(folder / "checkpoints.parquet", _table(checkpoints[::-1]))
        write_table(folder / "curves.parquet", _losses(rng, trained, folds))
        for number, network in enumerate(kept):
            several = [part for part, all_of in zip(network[2:], (networks, features), strict=True) if len(all_of) > 1]
            path = folder / "embeddings" / f"{slug('@'.join([network[0], *several]))}.parquet"
            write_table(path, _embeddings(rng, network, number, names, folds, task, truth, values))
    else:
        for method in described:
            for seed, fold in sorted({(s, f) for s, f, _ in folds})[:done]:
                part = folder / "parts" / f"{slug(method['name'])}-seed{seed}-fold{fold}"
                for name, table in (("predictions", last), ("checkpoints", checkpoints)):
                    of_part = [r for r in table if (r["method"], r["seed"], r["fold"]) == (method["name"], seed, fold)]
                    if of_part:
                        write_table(part / f"{name}.parquet", _table(of_part))
                losses = [] if method["approach"] in BASELINES else [1 / epoch for epoch in range(1, EPOCHS[-1] + 1)]
                write_json(part / "losses.json", [{"methods": [method["name"]], "losses": losses}])
                write_json(part / "cost.json", COST)
    write_json(folder / "notes.json", list(notes))
    n_test = len(folds) / len({(s, f) for s, f, _ in folds})
    content = {
        "dataset": {"spec": "folder", "plugin": _plugin("folder"), "digest": "0123abcd", "tracks": "0123"},
        "task": task_to_json(task),
        "n_tracks": n_tracks,
        "features": {spec: _features(spec) for spec in features},
        "networks": {spec: {"spec": spec, "plugin": _plugin(*spec.split(":", 1))} for spec in networks},
        "approaches": {name: _similarity(name) for name in skill},
        "learners": {spec: _learner(spec, list(skill)) for spec in learners},
        "methods": described,
        "comparisons": Comparisons.of(_combined(list(skill), learners, networks, features)).to_json(),
        "epochs": EPOCHS[-1],
        "metric": None,
        "bootstrap": "tracks",
        "batch": 32,
        "optimizer": "adadelta",
        "excerpt": 100,
        "deltas": None,
        "normalize": "training",
        "engine": "torch",
        "device": "cpu",
        "folds": official or ("stratified" if truth is not None else "random"),
        "cv": None if splits or official else n_folds,
        "splits": splits,
        "test_size": n_test / n_tracks if splits else None,
        "train_size": 1.0,
        "label_similarity": None,
        "select": [],
        "inner_cv": 3,
        "n_used": n_tracks,
        "n_train": n_tracks - n_test,
        "n_test": n_test,
        "chance": 0.25 if truth is not None else None,
        "excluded": {},
        "seeds": list(seeds),
        "checkpoint_every": 10,
        "versions": {"python": "3.11.9", "mirembed": "0.1.0"},
    }
    manifest = {
        "format": FORMAT,
        "command": "mirembed evaluate --cv 5",
        "configuration": content | configuration,
        "started": "2026-01-02T03:04:05+00:00",
        "finished": None if done is not None else "2026-01-02T04:05:06+00:00",
    }
    write_json(folder / "manifest.json", manifest)
    (folder / "experiment.toml").write_text('dataset = "folder"\ncv = 5\n')
    return folder


def write_grid(folder: Path, members: Sequence[str], *, finished: bool = False) -> Path:
    """Write what makes a folder of runs an experiment."""
    manifest = {
        "format": FORMAT,
        "command": "mirembed evaluate",
        "configuration": {"grid": list(members)},
        "started": "2026-01-02T03:04:05+00:00",
        "finished": "2026-01-02T04:05:06+00:00" if finished else None,
    }
    write_json(folder / "manifest.json", manifest)
    return folder


def _tests(
    rng: np.random.Generator, names: Sequence[str], n_folds: int, splits: int | None, seeds: Sequence[int]
) -> list[tuple[int, int, int]]:
    """Return seed, fold and track for each time that a track is tested."""
    found = []
    for seed in seeds:
        if splits is None:
            order = rng.permutation(len(names))
            found += [(seed, fold, int(track)) for fold in range(n_folds) for track in order[fold::n_folds]]
        else:
            size = len(names) // n_folds
            draws = [(fold, rng.permutation(len(names))[:size]) for fold in range(splits)]
            found += [(seed, fold, int(track)) for fold, drawn in draws for track in drawn]
    return found


def _method(method: Mapping[str, Any]) -> dict[str, Any]:
    return {"method": method["name"], **{name: method[name] for name in ("approach", "learner", "network", "features")}}


def _network(method: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(method[name] for name in TRAINED)


def _features(spec: str) -> dict[str, Any]:
    parts = [{"spec": part, "plugin": _plugin(*part.split(":", 1))} for part in spec.split("+")]
    return {"spec": spec, "parts": [{**part, "values": 40, "hop": 0.025, "digest": "00"} for part in parts]}


def _prediction(
    rng: np.random.Generator, task: Task, truth: Any, values: Any, track: int, skill: float
) -> dict[str, Any]:
    if isinstance(task, Classification):
        right = rng.random() < skill
        guess = truth[track] if right else rng.integers(0, len(task.classes))
        return {"label": task.classes[truth[track]], "prediction": task.classes[guess]}
    if isinstance(task, Tags):
        scores = skill * truth[track] + (1 - skill) * rng.random(len(task.classes))
        tags = {"label": tags_of(truth[track], task), "prediction": tags_of(scores > 0.5, task)}
        return tags | {f"score_{tag}": float(score) for tag, score in zip(task.classes, scores, strict=True)}
    predicted = skill * values[track] + (1 - skill) * rng.uniform(1, 9, len(task.targets))
    columns = {}
    for number, target in enumerate(task.targets):
        columns |= {target.name: values[track, number], f"predicted_{target.name}": predicted[number]}
    return columns


def _probabilities(rng: np.random.Generator, task: Task, approach: str) -> dict[str, float | None]:
    """Return the columns of a method's probabilities; ``chance`` has none."""
    n = len(task.classes)
    drawn = rng.dirichlet(np.ones(n)) if isinstance(task, Classification) else rng.random(n)
    values = [None] * n if approach == "chance" else drawn.tolist()
    return {f"probability_{name}": value for name, value in zip(task.classes, values, strict=True)}


def _retrieval(rng: np.random.Generator, approach: str) -> dict[str, float | None]:
    """Return the columns of a query's scores, of which the first is sometimes undefined; ``chance`` has none."""
    values: list[float | None] = [*rng.random(4).tolist(), float(rng.integers(0, 20))]
    if rng.random() < 0.1:
        values[0] = None
    values = [None] * 5 if approach == "chance" else values
    return {f"retrieval_{name}": value for name, value in zip(QUERY_SCORES, values, strict=True)}


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return predictions as a table whose columns are text even if no row has a learner, network or features."""
    table = pa.Table.from_pylist(rows)
    for name in ("learner", "network", "features"):
        table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.string()))
    return table


def _losses(
    rng: np.random.Generator, trained: Sequence[tuple[str, ...]], folds: Sequence[tuple[int, int, int]]
) -> pa.Table:
    rows = [
        {**dict(zip(TRAINED, network, strict=True)), "seed": s, "fold": f, "epoch": e}
        | {"loss": (n + 1) * float(rng.uniform(0.9, 1.1)) / e}
        for n, network in enumerate(trained)
        for s, f in sorted({(s, f) for s, f, _ in folds})
        for e in range(1, EPOCHS[-1] + 1)
    ]
    texts, numbers = dict.fromkeys(TRAINED, pa.string()), dict.fromkeys(("seed", "fold", "epoch"), pa.int64())
    return pa.Table.from_pylist(rows, schema=pa.schema({**texts, **numbers, "loss": pa.float64()}))


def _embeddings(
    rng: np.random.Generator,
    network: tuple[str, ...],
    number: int,
    names: Sequence[str],
    folds: Sequence[tuple[int, int, int]],
    task: Task,
    truth: Any,
    values: Any,
) -> pa.Table:
    seed, fold, _ = folds[0]
    tested = {track for s, f, track in folds if (s, f) == (seed, fold)}
    if isinstance(task, Classification):
        centers = np.eye(8)[truth]
    else:
        columns = truth if isinstance(task, Tags) else values
        centers = columns @ rng.normal(0, 0.2, (columns.shape[1], 8))
    vectors = (centers + rng.normal(0, 0.3 + 0.1 * number, (len(names), 8))).astype(np.float32)
    n = len(names)
    return pa.table(
        {
            **{name: pa.array([part] * n, pa.string()) for name, part in zip(TRAINED, network, strict=True)},
            "seed": pa.array([seed] * n, pa.int64()),
            "fold": pa.array([fold] * n, pa.int64()),
            "epoch": pa.array([EPOCHS[-1]] * n, pa.int64()),
            "id": list(names),
            "in_sample": [track not in tested for track in range(n)],
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 8),
        }
    )


def _similarity(approach: str) -> dict[str, Any]:
    if not approach.endswith("-sl"):
        return {}
    plugin = _plugin(*approach.removesuffix("-sl").split(":", 1))
    return {"similarity": plugin, "label_similarity": plugin}


def _learner(spec: str, approaches: Sequence[str]) -> dict[str, Any]:
    plugin = _plugin(*spec.split(":", 1))
    kernel = plugin["parameters"].get("kernel", "rbf")
    if kernel == "rbf":  # scikit-learn's
        return plugin
    learned = {name: _similarity(name)["similarity"] for name in approaches if name.endswith("-sl")}
    matched = learned if kernel == "match" else dict.fromkeys(approaches, _plugin(kernel))
    return {**plugin, "kernels": matched}


def _plugin(name: str, parameters: str = "") -> dict[str, Any]:
    """Describe a plugin as the registry does; the part of the name before a slash is its distribution."""
    given = dict(item.split("=") for item in parameters.split(",") if item)
    numbers = {key: float(value) if value.isdecimal() else value for key, value in given.items()}
    distribution, _, bare = name.rpartition("/")
    return {
        "spec": f"{name}:{parameters}" if parameters else name,
        "name": bare,
        "distribution": distribution or "mirembed",
        "version": "0.1.0",
        "parameters": {**PARAMETERS.get(bare, {}), **numbers},
    }
