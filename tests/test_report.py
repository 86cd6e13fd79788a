"""The numbers of ``mirembed report``: those that numpy, scipy and scikit-learn make of the stored predictions."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import scipy.stats
import sklearn.decomposition
import sklearn.metrics
from report_pages import Page, records, report
from small_reports import CLASSES, TARGETS, write_grid, write_report_run

from mirembed.reports import Written
from mirembed.reports.maps import principal_components

METRICS = {
    "accuracy": sklearn.metrics.accuracy_score,
    "macro_f1": lambda truth, predicted: sklearn.metrics.f1_score(truth, predicted, average="macro"),
}


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> tuple[Path, Written]:
    folder = write_report_run(tmp_path_factory.mktemp("runs") / "folder-1", CLASSES)
    return folder, report(folder)


@pytest.fixture(scope="module")
def targets(tmp_path_factory) -> tuple[Path, Written]:
    folder = write_report_run(tmp_path_factory.mktemp("runs") / "folder-1", TARGETS)
    return folder, report(folder)


LEARNERS = ("svm:kernel=rbf", "svm:kernel=cosine", "svm:kernel=match")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory) -> tuple[Path, Written]:
    """A run with three learners."""
    skill = {"nn": 0.5, "rbf-sl": 0.9, "cosine-sl": 0.6}
    folder = write_report_run(tmp_path_factory.mktemp("runs") / "folder-1", skill=skill, learners=LEARNERS)
    return folder, report(folder)


Rows = dict[str, np.ndarray]


def stored(folder: Path, name: str, **where: object) -> Rows:
    """The columns of a Parquet file, of the rows that have these values."""
    table = pq.read_table(folder / name)
    for column, value in where.items():
        table = table.filter(pc.equal(table[column], value))
    return {column: np.array(table[column].to_pylist()) for column in table.column_names}


def fold_scores(rows: Rows, score: Callable[[Rows], float]) -> np.ndarray:
    places = sorted(set(zip(rows["seed"].tolist(), rows["fold"].tolist(), strict=True)))
    inside = [(rows["seed"] == seed) & (rows["fold"] == fold) for seed, fold in places]
    return np.array([score({name: values[chosen] for name, values in rows.items()}) for chosen in inside])


def of_classes(metric: str) -> Callable[[Rows], float]:
    return lambda rows: METRICS[metric](rows["label"], rows["prediction"])


def of_target(name: str) -> Callable[[Rows], float]:
    return lambda rows: scipy.stats.pearsonr(rows[name], rows[f"predicted_{name}"])[0]


def corrected(values: np.ndarray, n_train: float, n_test: float) -> tuple[float, float, float]:
    """Mean and 95 % interval after Nadeau and Bengio."""
    error = np.sqrt((1 / len(values) + n_test / n_train) * values.var(ddof=1))
    half_width = scipy.stats.t.ppf(0.975, len(values) - 1) * error
    return values.mean(), values.mean() - half_width, values.mean() + half_width


def shown(mean: float, low: float, high: float) -> str:
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


@pytest.mark.parametrize(("metric", "label"), [("accuracy", "accuracy"), ("macro_f1", "macro-F1")])
def test_scores_of_classes_are_those_of_scikit_learn(metric, label, classes):
    folder, written = classes
    for method in ("nn", "rbf-sl", "mel", "chance"):
        values = fold_scores(stored(folder, "predictions.parquet", method=method), of_classes(metric))
        expected = corrected(values, n_train=48, n_test=12)
        (record,) = [r for r in records(written, "scores") if (r["method"], r["metric"]) == (method, metric)]
        assert [float(record[key]) for key in ("mean", "low", "high")] == pytest.approx(expected)
        assert shown(*expected) in Page.of(written).cell("Scores of each method", label, method).replace("★", "")


def test_scores_of_targets_are_the_correlations_of_scipy(targets):
    folder, written = targets
    page = Page.of(written)
    for target in ("valence", "arousal"):
        for method in ("fl", "cosine-sl", "chance"):
            values = fold_scores(stored(folder, "predictions.parquet", method=method), of_target(target))
            expected = corrected(values, n_train=48, n_test=12)
            (record,) = [r for r in records(written, "scores") if (r["method"], r["target"]) == (method, target)]
            assert [float(record[key]) for key in ("mean", "low", "high")] == pytest.approx(expected)
            assert page.cell("Pearson's r of each method", target, method) == shown(*expected)
            squared = shown(*corrected(values**2, n_train=48, n_test=12))
            assert page.cell("r² of each method", target, method) == squared


def test_pooled_scores_are_those_of_all_folds_together(targets):
    folder, written = targets
    table = stored(folder, "predictions.parquet", method="nn")
    names = ("valence", "arousal")
    r = np.mean([scipy.stats.pearsonr(table[n], table[f"predicted_{n}"])[0] for n in names])
    r2 = np.mean([sklearn.metrics.r2_score(table[n], table[f"predicted_{n}"]) for n in names])
    found = {(x["metric"], x["over"]): x for x in records(written, "metrics") if x["method"] == "nn"}
    assert float(found["r", "pooled"]["mean"]) == pytest.approx(r)
    assert float(found["r2", "pooled"]["mean"]) == pytest.approx(r2)
    assert Page.of(written).cell("All metrics", "nn", "pooled R²").startswith(f"{r2:.3f} [")


def test_the_points_of_the_curves_are_the_scores_of_the_checkpoints(classes):
    folder, written = classes
    for epoch in (10, 20, 30):
        values = fold_scores(stored(folder, "checkpoints.parquet", method="fl", epoch=epoch), of_classes("accuracy"))
        (record,) = [
            r
            for r in records(written, "curves")
            if (r["method"], r["epoch"], r["metric"]) == ("fl", str(epoch), "accuracy")
        ]
        assert [float(record[k]) for k in ("mean", "low", "high")] == pytest.approx(corrected(values, 48, 12))


def test_the_highest_point_of_a_curve_is_called_chosen_on_the_test_data(classes):
    _, written = classes
    page = Page.of(written)
    heading, *rows = page.tables["Last and highest point of the curves"]
    assert heading[3:] == ["epoch of the highest", "accuracy there, chosen on the test data"]
    for method, last, *_ in rows:
        assert last == "30"
        means = {r["epoch"]: float(r["mean"]) for r in records(written, "curves")
                 if (r["method"], r["metric"]) == (method, "accuracy")}  # fmt: skip
        assert page.cell("Last and highest point of the curves", method, heading[3]) == max(means, key=means.get)
    (curve,) = [c for c in page.texts("figcaption") if c.startswith("Learning curves: accuracy")]
    assert "Hollow: the highest point, chosen on the test data" in curve


def test_differences_are_tested_as_scipy_would_and_corrected_together(classes):
    folder, written = classes
    tests = records(written, "significance") + records(written, "significance-all")
    assert len(tests) == 30
    p_values = []
    for test in tests:
        a, b = (
            fold_scores(stored(folder, "predictions.parquet", method=test[side]), of_classes(test["metric"]))
            for side in "ab"
        )
        mean, low, high = corrected(a - b, 48, 12)
        t = scipy.stats.ttest_1samp(a - b, 0).statistic * np.sqrt((1 / 5) / (1 / 5 + 12 / 48))
        p_values.append(2 * scipy.stats.t(4).sf(abs(t)))
        assert [float(test[f"difference_{k}"]) for k in ("mean", "low", "high")] == pytest.approx([mean, low, high])
        assert (float(test["t"]), float(test["p"])) == pytest.approx((t, p_values[-1]))
    order = np.argsort(p_values)
    holm = np.minimum(np.maximum.accumulate(np.sort(p_values) * np.arange(30, 0, -1)), 1)
    assert [float(tests[i]["p_holm"]) for i in order] == pytest.approx(holm)


def test_nothing_that_is_not_significant_is_called_better(classes):
    _, written = classes
    for test in records(written, "significance") + records(written, "significance-all"):
        if float(test["p_holm"]) >= 0.05:
            assert test["verdict"] == "not significant"
        else:
            higher = test["a"] if float(test["mean_a"]) > float(test["mean_b"]) else test["b"]
            assert test["verdict"] == f"{higher} is higher"


def test_the_best_of_a_line_is_marked_only_when_it_is_better_than_every_other(tmp_path):
    clear = {"nn": 0.3, "rbf-sl": 1.0, "chance": 0.0}
    marked = report(write_report_run(tmp_path / "clear", skill=clear, n_tracks=300))
    assert {(r["method"], r["metric"]) for r in records(marked, "scores") if r["best"] == "True"} == {
        ("rbf-sl", "accuracy"),
        ("rbf-sl", "macro_f1"),
    }
    assert Page.of(marked).cell("Scores of each method", "accuracy", "rbf-sl").startswith("1.000★")
    latex = next(path for path in marked.tables if path.name == "scores.tex").read_text()
    assert latex.count(r"\textbf{1.000}") == 2

    close = report(write_report_run(tmp_path / "close", skill={**clear, "fl": 0.995}, n_tracks=300))
    assert all(record["best"] == "False" for record in records(close, "scores"))
    assert "★" not in close.page.read_text()


def test_welch_stands_beside_the_corrected_test_of_repeated_splits(tmp_path, classes):
    folder = write_report_run(tmp_path / "run", skill={"nn": 0.5, "rbf-sl": 0.8}, splits=8)
    written = report(folder)
    (test,) = records(written, "significance")
    a, b = (
        fold_scores(stored(folder, "predictions.parquet", method=method), of_classes("accuracy"))
        for method in ("nn", "rbf-sl")
    )
    assert float(test["p_welch"]) == pytest.approx(scipy.stats.ttest_ind(a, b, equal_var=False).pvalue)
    assert float(test["p_welch"]) < float(test["p"])
    assert "p (Welch)" in Page.of(written).tables["Differences in accuracy"][0]
    assert "p (Welch)" not in Page.of(classes[1]).tables["Differences in accuracy"][0]


def test_confusions_are_counted_as_scikit_learn_does(classes):
    folder, written = classes
    table = stored(folder, "predictions.parquet", method="mel")
    expected = sklearn.metrics.confusion_matrix(table["label"], table["prediction"], labels=CLASSES.classes)
    assert [int(record["count"]) for record in records(written, "confusion-mel")] == expected.ravel().tolist()
    rows = [[str(count) for count in row] for row in expected]
    assert [row[1:] for row in Page.of(written).tables["Confusion: mel"][1:]] == rows


def test_similarities_are_those_of_the_label_vectors_and_the_embeddings(targets):
    folder, written = targets
    table = stored(folder, "embeddings/rbf-sl.parquet", in_sample=False)
    truth = stored(folder, "predictions.parquet", method="nn")
    rows = [truth["id"].tolist().index(track) for track in table["id"]]
    labels = np.column_stack([(truth[name][rows] - 1) / 8 for name in ("valence", "arousal")])
    vectors = table["embedding"].astype(float)
    upper = np.triu_indices(len(rows), 1)
    of_labels, of_embeddings = (
        np.exp(-((values[:, None] - values[None]) ** 2).sum(-1))[upper] for values in (labels, vectors)
    )
    r = scipy.stats.pearsonr(of_labels, of_embeddings)[0]
    (caption,) = [c for c in Page.of(written).texts("figcaption") if c.startswith("Similarities of rbf-sl")]
    assert f"{len(upper[0])} pairs of test tracks, r = {r:.3f}" in caption


def test_a_map_shows_the_principal_components(classes):
    folder, written = classes
    vectors = stored(folder, "embeddings/nn.parquet")["embedding"].astype(np.float32)
    pca = sklearn.decomposition.PCA(2).fit(vectors.astype(float))
    places, shares = principal_components(vectors)
    np.testing.assert_allclose(np.abs(places), np.abs(pca.transform(vectors)), atol=1e-5)
    np.testing.assert_allclose(shares, pca.explained_variance_ratio_, rtol=1e-5)
    (caption,) = [c for c in Page.of(written).texts("figcaption") if c.startswith("Map of nn")]
    assert f"two components explain {pca.explained_variance_ratio_.sum():.0%} of the variance" in caption


def test_every_track_of_a_map_tells_its_name_its_label_and_its_side(classes):
    folder, written = classes
    predicted = stored(folder, "predictions.parquet", method="nn")
    labels = dict(zip(predicted["id"], predicted["label"], strict=True))
    table = stored(folder, "embeddings/nn.parquet")
    expected = {
        f"{track}: {labels[track]}, {'training' if in_sample else 'test'} track"
        for track, in_sample in zip(table["id"], table["in_sample"], strict=True)
    }
    n_maps = 4
    said = [text for text in Page.of(written).texts("title") if text.endswith(" track")]
    assert len(said) == n_maps * len(expected)
    assert set(said) == expected


def test_kernels_stand_against_learned_similarities(kernels):
    folder, written = kernels
    page = Page.of(written)
    title = "Learned similarity against kernel"
    assert page.tables[title][0] == ["approach", *LEARNERS]
    said = {"rbf-sl": [" same kind", "", " matching"], "cosine-sl": ["", " matching", " matching"]}
    for approach, kinds in said.items():
        for learner, kind in zip(LEARNERS, kinds, strict=True):
            rows = stored(folder, "predictions.parquet", method=f"{approach}+{learner}")
            values = fold_scores(rows, of_classes("accuracy"))
            assert page.cell(title, approach, learner) == shown(*corrected(values, 48, 12)) + kind


def test_kernels_are_tested_on_the_same_network(kernels):
    _, written = kernels
    pairs = {(test["a"], test["b"]) for test in records(written, "kernels-significance")}
    assert pairs == {
        (f"{approach}+{one}", f"{approach}+{other}")
        for approach in ("rbf-sl", "cosine-sl")
        for one, other in itertools.combinations(LEARNERS, 2)
    }


def test_a_grid_shows_its_runs_together_and_corrects_over_its_own_table(tmp_path):
    clear = {"nn": 0.3, "rbf-sl": 1.0}
    write_report_run(tmp_path / "grid" / "one", skill=clear, n_tracks=300)
    write_report_run(tmp_path / "grid" / "two", TARGETS, skill={**clear, "fl": 0.31})
    written = report(write_grid(tmp_path / "grid", ["one", "two", "three"]))
    rows = records(written, "overview")
    assert [(r["run"], r["metric"], r["method"]) for r in rows] == [
        *(("one", "accuracy", m) for m in ("nn", "rbf-sl")),
        *(("two", "r", m) for m in ("nn", "rbf-sl", "fl")),
    ]
    page = Page.of(written)
    assert "after Holm's correction over the 4 tests of this table. 1 of 3 runs have not begun." in " ".join(
        page.texts("caption")
    )
    assert [record["tracks"] for record in records(written, "datasets")] == ["300", "60"]
    assert re.findall(r"one-scores\.(csv|tex)", " ".join(map(str, written.tables))) == ["csv", "tex"]
