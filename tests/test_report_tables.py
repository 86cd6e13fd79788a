"""What a report shows of tags, classes, neighbors, probabilities, choices, costs and train sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats
import sklearn.calibration
import sklearn.metrics
from report_pages import Page, records, report
from small_reports import CLASSES, TAGS, TARGETS, write_grid, write_report_run

from mirembed import Tags
from mirembed.reports.report import WrittenReport
from mirembed.runs.record import read_run
from mirembed.store.files import write_table

pytestmark = pytest.mark.slow

SKILL = {"nn": 0.6, "rbf-sl": 0.9, "stats": 0.5, "chance": 0.0}
SMALL = {"nn": 0.5, "rbf-sl": 0.9}


@pytest.fixture(scope="module")
def tags(tmp_path_factory) -> tuple[Path, WrittenReport]:
    folder = tmp_path_factory.mktemp("runs") / "tags-1"
    write_report_run(folder, TAGS, skill=SKILL, n_tracks=50, probabilities=True, retrieval=True)
    return folder, report(folder, drawn=True)


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> tuple[Path, WrittenReport]:
    folder = tmp_path_factory.mktemp("runs") / "classes-1"
    learners = ("svm", "svm:C=10")
    write_report_run(folder, CLASSES, skill=SKILL, n_tracks=50, learners=learners, probabilities=True, retrieval=True)
    return folder, report(folder)


def rows_of(folder: Path, method: str) -> list[dict[str, Any]]:
    return [row for row in pq.read_table(folder / "predictions.parquet").to_pylist() if row["method"] == method]


def by_fold(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [[row for row in rows if row["fold"] == fold] for fold in sorted({row["fold"] for row in rows})]


def truth_and_scores(rows: list[dict[str, Any]], tag: str) -> tuple[list[bool], list[float]]:
    return [tag in row["label"] for row in rows], [row[f"score_{tag}"] for row in rows]


# Scores by tag and class


@pytest.mark.parametrize(
    ("metric", "label", "function"),
    [
        ("roc_auc", "ROC-AUC", sklearn.metrics.roc_auc_score),
        ("average_precision", "Average precision", sklearn.metrics.average_precision_score),
    ],
)
def test_scores_of_each_tag_agree_with_scikit_learn(metric, label, function, tags):
    folder, written = tags
    page = Page.of(written)
    for tag in TAGS.classes:
        scores = [function(*truth_and_scores(rows, tag)) for rows in by_fold(rows_of(folder, "nn"))]
        assert page.cell(f"scores-{label}", tag, "nn").startswith(f"{np.mean(scores):.3f} [")
        (record,) = [r for r in records(written, f"scores-{metric}") if (r["method"], r["target"]) == ("nn", tag)]
        assert float(record["mean"]) == pytest.approx(np.mean(scores))
    means = [
        np.mean([function(*truth_and_scores(rows, tag)) for tag in TAGS.classes])
        for rows in by_fold(rows_of(folder, "nn"))
    ]
    assert page.cell("metrics", "nn", label if metric == "roc_auc" else label.lower()).startswith(
        f"{np.mean(means):.3f} ["
    )


def test_the_table_of_tags_counts_the_tracks_of_each_tag_once(tags):
    folder, written = tags
    rows = rows_of(folder, "nn")
    for tag in TAGS.classes:
        n = len({row["id"] for row in rows if tag in row["label"]})
        assert Page.of(written).cell("scores-ROC-AUC", tag, "tracks") == str(n)


def test_predicted_tags_are_counted_and_have_precision_and_recall(tags):
    folder, written = tags
    rows = rows_of(folder, "stats")
    for record in records(written, "tags-stats"):
        truth, predicted = ([record["tag"] in row[name] for row in rows] for name in ("label", "prediction"))
        counts = sum(truth), sum(predicted), sum(np.array(truth) & np.array(predicted))
        assert tuple(int(record[name]) for name in ("labeled", "predicted", "both")) == counts
        assert float(record["precision"]) == pytest.approx(sklearn.metrics.precision_score(truth, predicted))
        assert float(record["recall"]) == pytest.approx(sklearn.metrics.recall_score(truth, predicted))
    assert not [path for path in written.figures if "confusion" in path.name]


def test_tags_have_curves_and_maps(tags):
    _, written = tags
    names = {path.stem for path in written.figures}
    assert {"curve", "curve-calm", "map-guitar", "similarity-rbf-sl"} <= names
    assert "ROC-AUC" in Page.of(written).figure_caption("Learning curves: ROC-AUC")


def test_curves_of_many_tags_are_drawn_of_their_mean_alone(tmp_path):
    many = Tags(tuple(f"tag {number}" for number in range(13)))
    written = report(write_report_run(tmp_path / "run", many, skill=SMALL, n_tracks=30))
    assert [path.stem for path in written.figures if path.stem.startswith("curve") and path.suffix == ".svg"] == [
        "curve"
    ]
    assert len({row["target"] for row in records(written, "curves")}) == 14


def test_recall_of_each_class_agrees_with_scikit_learn(classes):
    folder, written = classes
    rows = rows_of(folder, "rbf-sl+svm")
    recalls = [
        sklearn.metrics.recall_score(
            [row["label"] for row in of_fold], [row["prediction"] for row in of_fold],
            labels=CLASSES.classes, average=None, zero_division=np.nan,
        )
        for of_fold in by_fold(rows)
    ]  # fmt: skip
    for name, mean in zip(CLASSES.classes, np.nanmean(recalls, axis=0), strict=True):
        assert Page.of(written).cell("scores-Recall", name, "rbf-sl+svm").startswith(f"{mean:.3f} [")
        assert Page.of(written).cell("scores-Recall", name, "tracks") == str(sum(row["label"] == name for row in rows))


# Undefined scores


def test_undefined_scores_are_counted_beside_the_mean_and_listed_by_reason(tmp_path):
    folder = write_report_run(tmp_path / "run", TAGS, skill=SMALL, n_tracks=50)
    table = pq.read_table(folder / "predictions.parquet")
    rows = table.to_pylist()
    for row in rows:
        if row["fold"] in (0, 1):
            row["label"] = [tag for tag in row["label"] if tag != "calm"]
    write_table(folder / "predictions.parquet", table.from_pylist(rows, schema=table.schema))
    written = report(folder)
    page = Page.of(written)
    assert page.cell("scores-ROC-AUC", "calm", "nn").endswith(", 2 undefined")
    assert page.cell("scores", "ROC-AUC, mean", "nn").endswith(", 2 undefined")
    assert not page.cell("scores-ROC-AUC", "loud", "nn").endswith("undefined")
    found = {(r["method"], r["metric"]): (r["reason"], r["undefined"], r["of"]) for r in records(written, "undefined")}
    assert found["nn", "roc_auc"] == ("no positive", "2", "15")


def test_a_report_without_undefined_scores_has_no_table_of_them(tmp_path):
    written = report(write_report_run(tmp_path / "run", CLASSES, skill=SMALL, n_tracks=90))
    assert "undefined" not in Page.of(written).tables


def test_constant_predictions_have_no_r(tmp_path):
    folder = write_report_run(tmp_path / "run", TARGETS, skill=SMALL, n_tracks=30)
    table = pq.read_table(folder / "predictions.parquet")
    rows = table.to_pylist()
    for row in rows:
        if row["method"] == "nn":
            row["predicted_valence"] = row["predicted_arousal"] = 5.0
    write_table(folder / "predictions.parquet", table.from_pylist(rows, schema=table.schema))
    written = report(folder)
    assert Page.of(written).cell("scores", "r, mean", "nn") == "undefined"
    reasons = {r["reason"] for r in records(written, "undefined") if (r["method"], r["metric"]) == ("nn", "r")}
    assert reasons == {"constant prediction"}


# Retrieval


def test_scores_of_neighbors_are_means_over_queries_and_folds(tags):
    folder, written = tags
    for name, label in (("precision_at_5", "precision at 5"), ("map", "mean average precision")):
        folds = by_fold(rows_of(folder, "stats"))
        values = [[row[f"retrieval_{name}"] for row in rows if row[f"retrieval_{name}"] is not None] for rows in folds]
        expected = np.mean([np.mean(of_fold) for of_fold in values])
        assert Page.of(written).cell("retrieval", "stats", label).startswith(f"{expected:.3f} [")
    counts = [[row["retrieval_k_occurrence"] for row in rows] for rows in by_fold(rows_of(folder, "nn"))]
    skewness = np.mean([scipy.stats.skew(of_fold) for of_fold in counts])
    assert Page.of(written).cell("retrieval", "nn", "hubness").startswith(f"{skewness:.3f} [")


def test_only_methods_with_an_embedding_have_neighbors(tags):
    _, written = tags
    assert [row[0] for row in Page.of(written).tables["retrieval"][1:]] == ["nn", "rbf-sl", "stats"]


def test_learners_on_one_embedding_share_their_neighbors(tmp_path):
    folder = write_report_run(
        tmp_path / "run", skill={"rbf-sl": 0.9}, learners=("svm", "svm:C=10"), n_tracks=30, retrieval=True
    )
    assert len(Page.of(report(folder)).tables["retrieval"]) == 1 + 2  # made-up neighbors differ
    table = pq.read_table(folder / "predictions.parquet")
    rows = sorted(table.to_pylist(), key=lambda row: (row["method"], row["fold"], row["id"]))
    for row, other in zip(rows[30:], rows[:30], strict=True):
        row |= {name: value for name, value in other.items() if name.startswith("retrieval_")}
    write_table(folder / "predictions.parquet", table.from_pylist(rows, schema=table.schema))
    assert [row[0] for row in Page.of(report(folder)).tables["retrieval"][1:]] == ["rbf-sl"]


# Probabilities


def test_the_reliability_of_tags_agrees_with_scikit_learn(tags):
    folder, written = tags
    rows = rows_of(folder, "rbf-sl")
    truth = np.array([[tag in row["label"] for tag in TAGS.classes] for row in rows]).ravel()
    stated = np.array([[row[f"probability_{tag}"] for tag in TAGS.classes] for row in rows]).ravel()
    found = [record for record in records(written, "reliability") if record["method"] == "rbf-sl"]
    assert float(found[0]["brier"]) == pytest.approx(sklearn.metrics.brier_score_loss(truth, stated))
    frequency, probability = sklearn.calibration.calibration_curve(truth, stated, n_bins=10)
    filled = [record for record in found if record["count"] != "0"]
    assert [float(record["frequency"]) for record in filled] == pytest.approx(frequency)
    assert [float(record["probability"]) for record in filled] == pytest.approx(probability)
    counts = np.array([int(record["count"]) for record in filled])
    error = np.sum(np.abs(frequency - probability) * counts) / len(truth)
    assert Page.of(written).cell("reliability", "rbf-sl", "calibration error") == f"{error:.3f}"
    assert Page.of(written).cell("reliability", "rbf-sl", "number") == str(len(truth))


def test_every_method_with_probabilities_has_a_reliability_and_each_network_a_figure(classes):
    _, written = classes
    kinds = {row[0]: row[1] for row in Page.of(written).tables["reliability"][1:]}
    learned = [f"{approach}+{learner}" for approach in ("rbf-sl", "stats") for learner in ("svm", "svm:C=10")]
    assert kinds == {"nn": "not calibrated", **dict.fromkeys(learned, "calibrated")}
    figures = {path.stem for path in written.figures if path.stem.startswith("reliability")}
    assert figures == {"reliability-nn", "reliability-rbf-sl", "reliability-stats"}


def test_targets_have_no_probabilities(tmp_path):
    written = report(write_report_run(tmp_path / "run", TARGETS, skill=SMALL, n_tracks=30))
    assert "Probabilities" not in Page.of(written).texts("h2")


# Selection


def chosen(method: str, fold: int, score: float, inner_fold: int, **values: str | None) -> dict[str, Any]:
    """Return a row of the candidate that won."""
    row = {"method": method, "seed": 0, "fold": fold, "candidate": 0, **values}
    return row | {"inner_fold": inner_fold, "score": score, "chosen": True}


SELECTION = [
    chosen("rbf-sl", fold, 0.5 + 0.1 * inner, inner, **{"similarity.gamma": gamma, "learner.C": "10"})
    for fold, gamma in enumerate(["2", "0.5", "2", "2", "0.5"])
    for inner in (0, 1)
]
SELECTED = {"select": ["similarity.gamma=0.5|2", "learner.C=1|10"], "inner_cv": 2}


@pytest.fixture(scope="module")
def selected(tmp_path_factory) -> tuple[Path, WrittenReport]:
    folder = tmp_path_factory.mktemp("runs") / "selected-1"
    write_report_run(folder, skill=SMALL, n_tracks=30, selection=SELECTION, **SELECTED)
    return folder, report(folder)


def test_what_was_chosen_is_counted_and_listed_by_fold(selected):
    _, written = selected
    page = Page.of(written)
    assert page.tables["selection"][1:] == [
        ["rbf-sl", "similarity.gamma=2, learner.C=10", "3", "5"],
        ["rbf-sl", "similarity.gamma=0.5, learner.C=10", "2", "5"],
    ]
    heading, *rows = page.tables["selection-folds"]
    assert heading == ["method", "fold", "similarity.gamma", "learner.C", "inner accuracy", "candidates"]
    assert rows[1] == ["rbf-sl", "1", "0.5", "10", "0.550", "1"]
    assert [r["similarity.gamma"] for r in records(written, "selection-folds")] == ["2", "0.5", "2", "2", "0.5"]


@pytest.mark.parametrize(("given", "of_labels"), [(None, 2), ("rbf", 1)])
def test_the_similarity_figure_uses_what_was_chosen_in_the_fold(given, of_labels, tmp_path):
    folder = tmp_path / "run"
    write_report_run(folder, skill=SMALL, n_tracks=30, selection=SELECTION, label_similarity=given, **SELECTED)
    embeddings = pq.read_table(folder / "embeddings" / "rbf-sl.parquet").to_pylist()
    tested = [row for row in embeddings if not row["in_sample"]]
    labels = {row["id"]: row["label"] for row in rows_of(folder, "nn")}
    one_hot = np.array([[labels[row["id"]] == name for name in CLASSES.classes] for row in tested], float)
    vectors = np.array([row["embedding"] for row in tested], float)

    def rbf(x: np.ndarray, gamma: float) -> np.ndarray:
        return np.exp(-gamma * ((x[:, None] - x) ** 2).sum(-1))[np.triu_indices(len(x), 1)]

    r = scipy.stats.pearsonr(rbf(one_hot, of_labels), rbf(vectors, 2))[0]
    caption = Page.of(report(folder)).figure_caption("Similarities of rbf-sl")
    assert f"r = {r:.3f}" in caption
    assert "similarity.gamma=2" in caption


def test_a_kernel_matches_only_in_kind_if_parameters_are_chosen_in_the_folds(tmp_path):
    learners = ("svm:gamma=1,kernel=rbf", "svm:kernel=match")
    rows = [row | {"method": f"rbf-sl+{learner}"} for learner in learners for row in SELECTION]
    folder = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30, learners=learners, selection=rows, **SELECTED)
    kernels = {record["learner"]: record["kernel"] for record in records(report(folder), "kernels")}
    assert kernels == {learners[0]: "same kind", learners[1]: "matching"}


@pytest.mark.parametrize(("choice", "kernel"), [("learner.C=1|10", "matching"), ("learner.gamma=1|2", "same kind")])
def test_a_chosen_parameter_of_the_learner_matters_only_if_it_is_one_of_the_kernel(choice, kernel, tmp_path):
    learners = ("svm:gamma=1,kernel=rbf", "svm")
    folder = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30, learners=learners, select=[choice])
    kernels = {record["learner"]: record["kernel"] for record in records(report(folder), "kernels")}
    assert kernels[learners[0]] == kernel


def test_epochs_that_not_all_folds_reached_make_no_curve(tmp_path):
    folder = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30, select=["epoch"])
    table = pq.read_table(folder / "checkpoints.parquet")
    rows = [row for row in table.to_pylist() if row["epoch"] == 10 or row["fold"] > 0]
    write_table(folder / "checkpoints.parquet", table.from_pylist(rows, schema=table.schema))
    written = report(folder)
    assert {path.stem for path in written.figures if path.stem.startswith("curve")} == set()
    assert "--checkpoint-every" not in Page.of(written).text("p")


def test_results_are_said_to_be_those_of_the_chosen_epoch(tmp_path):
    rows = [chosen("rbf-sl", fold, 0.5, 0, epoch="30") for fold in range(5)]
    folder = write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30, selection=rows, select=["epoch"])
    texts = Page.of(report(folder)).text("p")
    assert "epoch that was chosen in each fold" in texts
    assert "always those of the last epoch" not in texts


# Cost


def test_costs_are_summed_over_trainings_and_methods(tmp_path):
    def training(method: str, fold: int, **cost: Any) -> dict[str, Any]:
        place = {"methods": [method], "network": "gru", "features": "logmel", "seed": 0, "fold": fold}
        return place | {"wall_seconds": 60.0, "cpu_seconds": 100.0, "sessions": 1, "processor": "a CPU"} | cost

    cost = [training("nn", fold, peak_memory=2**30 + fold * 2**29) for fold in range(2)]
    cost += [training("rbf-sl", fold, peak_memory=2**29, sessions=1 + fold) for fold in range(2)]
    written = report(write_report_run(tmp_path / "run", skill=SMALL, n_tracks=30, cost=cost))
    assert Page.of(written).tables["cost"] == [
        ["methods", "trainings", "resumed", "CPU time", "wall time", "memory", "processor"],
        ["nn", "2", "0", "3 min", "2 min", "1.5 GiB", "a CPU"],
        ["rbf-sl", "2", "1", "3 min", "2 min", "512.0 MiB", "a CPU"],
        ["all", "4", "1", "7 min", "4 min", "1.5 GiB", "a CPU"],
    ]
    found = records(written, "cost")
    assert [(r["methods"], float(r["cpu_seconds"]), int(r["peak_memory"])) for r in found] == [
        ("nn", 200, 3 * 2**29),
        ("rbf-sl", 200, 2**29),
    ]


# Train sizes


def test_runs_that_differ_only_in_train_size_make_a_curve_over_training_tracks(tmp_path):
    for name, size, skill in (("whole", 1.0, 0.9), ("half", 0.5, 0.6)):
        write_report_run(
            tmp_path / "grid" / name, skill={"nn": skill, "rbf-sl": skill}, n_tracks=30,
            train_size=size, n_train=24 * size, chance=0.3 * size,
        )  # fmt: skip
    write_report_run(tmp_path / "grid" / "other", skill=SMALL, n_tracks=30, epochs=400)
    written = report(write_grid(tmp_path / "grid", ["whole", "half", "other"]))
    found = records(written, "train-sizes")
    assert [(r["run"], r["train_size"], r["n_train"], r["method"]) for r in found] == [
        (run, size, n_train, method)
        for run, size, n_train in (("half", "0.5", "12.0"), ("whole", "1.0", "24.0"))
        for method in ("nn", "rbf-sl")
    ]
    for record in found:
        run = read_run(tmp_path / "grid" / record["run"])
        assert float(record["mean"]) == pytest.approx(run.interval(record["method"], ("accuracy", None)).mean)
    assert "train-sizes" in {path.stem for path in written.figures}


def test_a_single_train_size_makes_no_curve(tmp_path):
    for name in ("one", "two"):
        write_report_run(tmp_path / "grid" / name, skill=SMALL, n_tracks=30, epochs=100 if name == "one" else 30)
    written = report(write_grid(tmp_path / "grid", ["one", "two"]))
    assert "Training tracks" not in Page.of(written).texts("h2")
