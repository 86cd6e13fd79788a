"""The numbers of ``mirembed report``, against those that numpy, scipy and scikit-learn compute."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import scipy.stats
import sklearn.decomposition
import sklearn.metrics
from report_pages import Page, records, report
from small_reports import CLASSES, TARGETS, write_grid, write_report_run

from mirembed.compare.paired_tests import paired_test
from mirembed.reports.comparisons import learners_section
from mirembed.reports.embeddings import principal_components
from mirembed.reports.report import WrittenReport
from mirembed.runs.folder import RunFolder
from mirembed.runs.record import read_run
from mirembed.runs.scores import score

pytestmark = pytest.mark.slow

METRICS = {
    "accuracy": sklearn.metrics.accuracy_score,
    "macro_f1": lambda truth, predicted: sklearn.metrics.f1_score(truth, predicted, average="macro"),
}


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> tuple[Path, WrittenReport]:
    folder = write_report_run(tmp_path_factory.mktemp("runs") / "folder-1", CLASSES)
    return folder, report(folder, drawn=True)


@pytest.fixture(scope="module")
def targets(tmp_path_factory) -> tuple[Path, WrittenReport]:
    folder = write_report_run(tmp_path_factory.mktemp("runs") / "folder-1", TARGETS)
    return folder, report(folder)


LEARNERS = ("svm:kernel=rbf", "svm:kernel=cosine", "svm:kernel=match")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory) -> tuple[Path, WrittenReport]:
    """A run with three learners."""
    skill = {"nn": 0.5, "rbf-sl": 0.9, "cosine-sl": 0.6}
    folder = write_report_run(tmp_path_factory.mktemp("runs") / "folder-1", skill=skill, learners=LEARNERS)
    return folder, report(folder)


Rows = dict[str, np.ndarray]


def stored(folder: Path, name: str, **where: object) -> Rows:
    """Return the columns of a Parquet file, for the rows with these values."""
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


def corrected(
    values: np.ndarray, n_train: float, n_test: float, lowest: float = 0, highest: float = 1
) -> tuple[float, float, float]:
    """Return the mean and the 95 % interval of Nadeau and Bengio, cut to the range of a metric."""
    error = np.sqrt((1 / len(values) + n_test / n_train) * values.var(ddof=1))
    half_width = scipy.stats.t.ppf(0.975, len(values) - 1) * error
    return values.mean(), max(values.mean() - half_width, lowest), min(values.mean() + half_width, highest)


def shown(mean: float, low: float, high: float) -> str:
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


@pytest.mark.parametrize(("metric", "label"), [("accuracy", "accuracy"), ("macro_f1", "macro-F1")])
def test_class_scores_agree_with_scikit_learn(metric, label, classes):
    folder, written = classes
    for method in ("nn", "rbf-sl", "stats", "chance"):
        values = fold_scores(stored(folder, "predictions.parquet", method=method), of_classes(metric))
        expected = corrected(values, n_train=48, n_test=12)
        (record,) = [r for r in records(written, "scores") if (r["method"], r["metric"]) == (method, metric)]
        assert [float(record[key]) for key in ("mean", "low", "high")] == pytest.approx(expected)
        assert shown(*expected) in Page.of(written).cell("scores", label, method).replace("★", "")


def test_target_scores_agree_with_scipy(targets):
    folder, written = targets
    page = Page.of(written)
    for target in ("valence", "arousal"):
        for method in ("fl", "cosine-sl", "chance"):
            values = fold_scores(stored(folder, "predictions.parquet", method=method), of_target(target))
            expected = corrected(values, n_train=48, n_test=12, lowest=-1)
            (record,) = [r for r in records(written, "scores") if (r["method"], r["target"]) == (method, target)]
            assert [float(record[key]) for key in ("mean", "low", "high")] == pytest.approx(expected)
            assert page.cell("scores", target, method) == shown(*expected)
            squared = shown(*corrected(values**2, n_train=48, n_test=12))
            assert page.cell("scores-r²", target, method) == squared


def test_pooled_scores_agree_with_scipy_and_scikit_learn(targets):
    folder, written = targets
    table = stored(folder, "predictions.parquet", method="nn")
    names = ("valence", "arousal")
    r = np.mean([scipy.stats.pearsonr(table[n], table[f"predicted_{n}"])[0] for n in names])
    r2 = np.mean([sklearn.metrics.r2_score(table[n], table[f"predicted_{n}"]) for n in names])
    found = {x["metric"]: x for x in records(written, "pooled") if x["method"] == "nn" and not x["target"]}
    assert float(found["r"]["mean"]) == pytest.approx(r)
    assert float(found["r2"]["mean"]) == pytest.approx(r2)
    assert Page.of(written).cell("pooled", "nn", "R²").startswith(f"{r2:.3f} [")


@pytest.mark.parametrize("task", [CLASSES, TARGETS])
def test_stored_scores_are_not_computed_again(task, tmp_path, monkeypatch):
    folder = write_report_run(tmp_path / "run", task, skill={"nn": 0.5, "rbf-sl": 0.8})
    run = read_run(folder)
    stored = score(run.predictions, run.task, run.n_train)
    RunFolder(folder).write_scores({one.method: one.to_json() for one in stored})
    expected = records(report(folder, tmp_path / "before"), "pooled")
    monkeypatch.setattr("mirembed.runs.scores.percentile_interval", None)
    assert records(report(folder, tmp_path / "after"), "pooled") == expected
    pooled = [record for record in expected if record["method"] == "nn"]
    assert {(record["metric"], record["target"] or None): record["low"] for record in pooled} == {
        line: "" if interval.low is None else str(interval.low) for line, interval in stored[0].pooled.items()
    }


@pytest.mark.parametrize("damage", ["{", "[]", "{}", '{"nn": 1}', '{"nn": {"accuracy": {"mean": "high"}}}'])
def test_damaged_stored_scores_are_computed_again(damage, tmp_path):
    folder = write_report_run(tmp_path / "run", skill={"nn": 0.5}, n_tracks=30)
    expected = read_run(folder).scores
    (folder / "scores.json").write_text(damage)
    assert read_run(folder).scores == expected


def test_curves_show_the_scores_at_the_checkpoints(classes):
    folder, written = classes
    for epoch in (10, 20, 30):
        values = fold_scores(stored(folder, "checkpoints.parquet", method="fl", epoch=epoch), of_classes("accuracy"))
        (record,) = [
            r
            for r in records(written, "curves")
            if (r["method"], r["epoch"], r["metric"]) == ("fl", str(epoch), "accuracy")
        ]
        assert [float(record[k]) for k in ("mean", "low", "high")] == pytest.approx(corrected(values, 48, 12))


def test_the_best_point_of_a_curve_is_marked_as_chosen_on_the_test_data(classes):
    _, written = classes
    page = Page.of(written)
    heading, *rows = page.tables["curves"]
    assert "chosen on the test data" in heading[4]
    for method, last, *_ in rows:
        assert last == "30"
        means = {r["epoch"]: float(r["mean"]) for r in records(written, "curves")
                 if (r["method"], r["metric"]) == (method, "accuracy")}  # fmt: skip
        assert page.cell("curves", method, heading[3]) == max(means, key=means.get)
    assert "chosen on the test data" in page.figure_caption("Learning curves: accuracy")


def holm(p_values: list[float]) -> np.ndarray:
    order, n_tests = np.argsort(p_values), len(p_values)
    rising = np.minimum(np.maximum.accumulate(np.sort(p_values) * np.arange(n_tests, 0, -1)), 1)
    return rising[np.argsort(order)]


def test_tests_agree_with_scipy_and_are_corrected_by_family(classes):
    folder, written = classes
    tests = records(written, "significance")
    families = {name: [test for test in tests if test["family"] == name] for name in ("primary", "baselines")}
    assert {name: [(test["a"], test["b"]) for test in of_family] for name, of_family in families.items()} == {
        "primary": [("fl", "nn"), ("rbf-sl", "nn"), ("cosine-sl", "nn")],
        "baselines": [("nn", "stats"), ("nn", "chance")],
    }
    for of_family in families.values():
        p_values = []
        for test in of_family:
            a, b = (
                fold_scores(stored(folder, "predictions.parquet", method=test[side]), of_classes(test["metric"]))
                for side in "ab"
            )
            mean, low, high = corrected(a - b, 48, 12, -np.inf, np.inf)
            t = scipy.stats.ttest_1samp(a - b, 0).statistic * np.sqrt((1 / 5) / (1 / 5 + 12 / 48))
            p_values.append(2 * scipy.stats.t(4).sf(abs(t)))
            assert [float(test[f"difference_{k}"]) for k in ("mean", "low", "high")] == pytest.approx([mean, low, high])
            assert (float(test["t"]), float(test["p"])) == pytest.approx((t, p_values[-1]))
        assert [float(test["p_holm"]) for test in of_family] == pytest.approx(holm(p_values))


def test_everything_that_was_not_declared_is_exploratory(classes):
    _, written = classes
    families = {test["family"] for test in records(written, "exploratory")}
    assert families == {"other pairs", "other metrics", "classes"}
    assert "exploratory" in Page.of(written).captions["exploratory"]


def test_only_a_significant_difference_names_the_better_method(classes):
    _, written = classes
    for test in records(written, "significance"):
        if float(test["p_holm"]) >= 0.05:
            assert test["verdict"] == "not significant"
        else:
            higher = test["a"] if float(test["mean_a"]) > float(test["mean_b"]) else test["b"]
            assert test["verdict"] == f"{higher} is higher"


def test_a_headline_score_is_marked_only_if_it_is_better_in_every_declared_comparison(tmp_path):
    clear = {"nn": 0.3, "rbf-sl": 1.0, "chance": 0.0}
    marked = report(write_report_run(tmp_path / "clear", skill=clear, n_tracks=300))
    assert {(r["method"], r["metric"]) for r in records(marked, "scores") if r["best"] == "True"} == {
        ("rbf-sl", "accuracy")
    }
    assert Page.of(marked).cell("scores", "accuracy", "rbf-sl").startswith("1.000★")
    latex = next(path for path in marked.tables if path.name == "scores.tex").read_text()
    assert latex.count(r"\textbf{1.000}") == 1

    skill = {"rbf-sl": 1.0, "fl": 0.995, "chance": 0.0}
    close = report(write_report_run(tmp_path / "close", skill=skill, n_tracks=300))
    assert all(record["best"] == "False" for record in records(close, "scores"))
    assert "★" not in close.page.read_text()


def test_repeated_splits_also_get_the_p_value_of_welch(tmp_path, classes):
    folder = write_report_run(tmp_path / "run", skill={"nn": 0.5, "rbf-sl": 0.8}, splits=8)
    written = report(folder)
    (test,) = records(written, "significance")
    a, b = (
        fold_scores(stored(folder, "predictions.parquet", method=method), of_classes("accuracy"))
        for method in ("rbf-sl", "nn")
    )
    assert float(test["p_welch"]) == pytest.approx(scipy.stats.ttest_ind(a, b, equal_var=False).pvalue)
    assert float(test["p_welch"]) < float(test["p"])
    assert "p (Welch)" in Page.of(written).tables["significance"][0]
    assert "p (Welch)" not in Page.of(classes[1]).tables["significance"][0]


def test_confusion_matrices_agree_with_scikit_learn(classes):
    folder, written = classes
    table = stored(folder, "predictions.parquet", method="stats")
    expected = sklearn.metrics.confusion_matrix(table["label"], table["prediction"], labels=CLASSES.classes)
    assert [int(record["count"]) for record in records(written, "confusion-stats")] == expected.ravel().tolist()
    rows = [[str(count) for count in row] for row in expected]
    assert [row[1:] for row in Page.of(written).tables["confusion-stats"][1:]] == rows


def test_similarities_compare_label_vectors_with_embeddings(targets):
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
    caption = Page.of(written).figure_caption("Similarities of rbf-sl")
    assert f"{len(upper[0])} pairs of test tracks" in caption
    assert f"r = {r:.3f}" in caption


def test_a_map_shows_the_principal_components(classes):
    folder, written = classes
    vectors = stored(folder, "embeddings/nn.parquet")["embedding"].astype(np.float32)
    pca = sklearn.decomposition.PCA(2).fit(vectors.astype(float))
    positions, shares = principal_components(vectors)
    np.testing.assert_allclose(np.abs(positions), np.abs(pca.transform(vectors)), atol=1e-5)
    np.testing.assert_allclose(shares, pca.explained_variance_ratio_, rtol=1e-5)
    assert f"{pca.explained_variance_ratio_.sum():.0%} of the variance" in Page.of(written).figure_caption("Map of nn")


def test_every_point_of_a_map_has_a_tooltip_with_track_label_and_side(classes):
    folder, written = classes
    predicted = stored(folder, "predictions.parquet", method="nn")
    labels = dict(zip(predicted["id"], predicted["label"], strict=True))
    table = stored(folder, "embeddings/nn.parquet")
    expected = {
        f"{track}: {labels[track]}, {'training' if in_sample else 'test'} track"
        for track, in_sample in zip(table["id"], table["in_sample"], strict=True)
    }
    n_maps = 4
    tooltips = [text for text in Page.of(written).texts("title") if text.endswith(" track")]
    assert len(tooltips) == n_maps * len(expected)
    assert set(tooltips) == expected


def test_the_table_of_learners_shows_which_kernel_was_learned(kernels):
    folder, written = kernels
    page = Page.of(written)
    assert page.tables["kernels"][0] == ["approach", *LEARNERS]
    matches = {"rbf-sl": [" same kind", "", " matching"], "cosine-sl": ["", " matching", " matching"]}
    for approach, kinds in matches.items():
        for learner, kind in zip(LEARNERS, kinds, strict=True):
            rows = stored(folder, "predictions.parquet", method=f"{approach}+{learner}")
            values = fold_scores(rows, of_classes("accuracy"))
            assert page.cell("kernels", approach, learner) == shown(*corrected(values, 48, 12)) + kind


def test_learners_are_compared_on_the_same_network(kernels):
    _, written = kernels
    pairs = {(test["a"], test["b"]) for test in records(written, "kernels-significance")}
    assert pairs == {
        (f"{approach}+{one}", f"{approach}+{other}")
        for approach in ("rbf-sl", "cosine-sl")
        for one, other in itertools.combinations(LEARNERS, 2)
    }


def test_each_family_is_corrected_over_its_own_tests_and_gives_their_number(kernels):
    _, written = kernels
    tests = records(written, "significance")
    names = [f"{approach}+{learner}" for approach in ("rbf-sl", "cosine-sl") for learner in LEARNERS]
    assert [(test["metric"], test["a"], test["b"]) for test in tests] == [("accuracy", name, "nn") for name in names]
    pairs = records(written, "kernels-significance")
    page = Page.of(written)
    for name, found in (("significance", tests), ("kernels-significance", pairs)):
        expected = holm([float(test["p"]) for test in found])
        assert [float(test["p_holm"]) for test in found] == pytest.approx(expected)
        assert f"{len(found)} tests" in page.captions[name]
    first = ["nn", *(f"{a}+{LEARNERS[0]}" for a in ("rbf-sl", "cosine-sl"))]
    assert [row[0] for row in page.tables["scores"]] == ["approach", *first]
    assert "first learner, svm:kernel=rbf" in page.captions["scores"]
    assert "every pair of learners on the same network" in page.captions["kernels-significance"]


def test_the_table_of_all_metrics_includes_the_other_learners(kernels):
    _, written = kernels
    names = [row[0] for row in Page.of(written).tables["metrics"][1:]]
    assert names == ["nn", *(f"{a}+{learner}" for a in ("rbf-sl", "cosine-sl") for learner in LEARNERS)]


def test_an_untestable_difference_is_not_counted_and_marks_nothing(tmp_path, monkeypatch):
    def only_some(a, b, line):
        test = paired_test(a, b, line)
        return replace(test, t_test=None) if a.method == "fl" else test

    folder = write_report_run(tmp_path / "run", skill={"nn": 0.3, "rbf-sl": 1.0, "fl": 1.0}, n_tracks=300)
    monkeypatch.setattr("mirembed.compare.families.paired_test", only_some)
    written = report(folder)
    tested, untested = records(written, "significance")
    assert (untested["p"], untested["p_holm"], untested["verdict"]) == ("", "", "not tested")
    assert tested["p_holm"] == tested["p"]
    assert [(r["method"], r["metric"]) for r in records(written, "scores") if r["best"] == "True"] == [
        ("rbf-sl", "accuracy")
    ]
    caption = Page.of(written).captions["significance"]
    assert "over 1 test" in caption
    assert "Not tested" in caption


def test_a_kernel_matches_only_the_same_function(tmp_path):
    learners = ("svm:gamma=1,kernel=rbf", "svm:gamma=2,kernel=rbf", "svm:gamma=scale,kernel=rbf", "svm",
                "svm:kernel=prior.py/rbf", "svm:kernel=match", "other.py/svm:gamma=1,kernel=rbf")  # fmt: skip
    skill = {"nn": 0.3, "rbf-sl": 0.9, "rbf:gamma=2-sl": 0.8, "prior.py/rbf-sl": 0.7, "stats": 0.5}
    run = read_run(write_report_run(tmp_path / "run", skill=skill, learners=learners, n_tracks=20))
    [table] = [table for table in learners_section(run).tables if table.name == "kernels"]
    found = {(record["approach"], record["learner"]): record["kernel"] for record in table.records}
    same = "same kind"
    expected = {
        "rbf-sl": ["matching", same, same, same, "", "matching", ""],
        "rbf:gamma=2-sl": [same, "matching", same, same, "", "matching", ""],
        "prior.py/rbf-sl": ["", "", "", "", "matching", "matching", ""],
        "stats": [""] * 7,
    }
    assert found == {
        (a, learner): kind for a, of in expected.items() for learner, kind in zip(learners, of, strict=True)
    }


@pytest.mark.parametrize("done", [4, 5, None])
def test_an_official_split_counts_once_with_the_mean_over_its_finished_seeds(done, tmp_path):
    skill = {"nn": 0.4, "rbf-sl": 0.8, "stats": 0.5}
    folder = write_report_run(
        tmp_path / "grid" / "run", skill=skill, official="ISMIR", n_official=3, seeds=(3, 4), done=done
    )
    written = report(write_grid(tmp_path / "grid", ["run"]))
    files = (
        [folder / "predictions.parquet"] if done is None else sorted(folder.glob("parts/rbf-sl-*/predictions.parquet"))
    )
    rows = pa.concat_tables([pq.read_table(file) for file in files])
    rows = {
        name: np.array(values) for name, values in rows.filter(pc.equal(rows["method"], "rbf-sl")).to_pydict().items()
    }
    by_fold = []
    for fold in range(3):
        of_fold = {name: values[rows["fold"] == fold] for name, values in rows.items()}
        by_fold.append(fold_scores(of_fold, of_classes("accuracy")).mean())
    expected = pytest.approx(corrected(np.array(by_fold), n_train=48, n_test=12))

    def reported(table: str, **where: str) -> list[float]:
        where |= {"method": "rbf-sl", "metric": "accuracy"}
        (found,) = [r for r in records(written, table) if all(r[key] == value for key, value in where.items())]
        return [float(found[key]) for key in ("mean", "low", "high")]

    assert reported("scores") == expected
    assert reported("metrics") == expected
    assert reported("curves", epoch="30") == expected
    assert reported("overview") == expected
    caption = Page.of(written).captions["scores"]
    assert "Means over 3 folds" in caption
    assert "averaged over its seeds" in caption
    assert ("that every method has finished" in caption) == (done is not None)
    assert ["3 folds" in progress for progress in written.progress] == [True] * (done is not None)


def test_similarities_of_many_tracks_are_those_of_a_random_sample(tmp_path):
    written = report(write_report_run(tmp_path / "run", skill={"rbf-sl": 0.9}, n_tracks=1100, n_folds=2))
    caption = Page.of(written).figure_caption("Similarities of rbf-sl")
    assert f"{500 * 499 // 2} pairs of test tracks" in caption
    assert "Random sample" in caption
    assert "500 of 550 training tracks" in caption
    assert "500 of 550 test tracks" in caption


def test_a_method_has_one_column_in_the_overview_whatever_its_runs_call_it(tmp_path):
    skill = {"nn": 0.3, "rbf-sl": 0.9, "stats": 0.5}
    for name, learners in {"two": ("svm", "ridge"), "one": ("svm",), "other": ("ridge",)}.items():
        write_report_run(tmp_path / "grid" / name, skill=skill if name != "other" else {"nn": 0.3, "stats": 0.5},
                         learners=learners, n_tracks=30)  # fmt: skip
    written = report(write_grid(tmp_path / "grid", ["two", "one", "other"]))
    heading, *rows = Page.of(written).tables["overview"]
    assert heading == ["run", "dataset", "metric", "nn", "rbf-sl", "stats+svm", "stats+ridge"]
    assert [[row[0], *map(bool, row[3:])] for row in rows] == [
        ["two", True, True, True, False],
        ["one", True, True, True, False],
        ["other", True, False, False, True],
    ]


@pytest.fixture(scope="module")
def varied(tmp_path_factory) -> tuple[Path, WrittenReport]:
    """A run with two networks, two features and two learners."""
    folder = write_report_run(
        tmp_path_factory.mktemp("runs") / "folder-1",
        skill={"rbf-sl": 0.9, "stats": 0.6, "chance": 0.0},
        networks=("gru", "mlp"),
        features=("logmel", "logmel+chroma"),
        learners=("svm", "svm:C=10"),
    )
    return folder, report(folder)


VARIED = [
    *(("rbf-sl", network, features) for network in ("gru", "mlp") for features in ("logmel", "logmel+chroma")),
    *(("stats", "", features) for features in ("logmel", "logmel+chroma")),
    ("chance", "", ""),
]


def test_methods_with_several_networks_and_features_are_rows_with_a_column_for_each_part(varied):
    folder, written = varied
    heading, *rows = Page.of(written).tables["scores"]
    assert heading == ["approach", "network", "features", "accuracy", "macro-F1"]
    assert [tuple(row[:3]) for row in rows] == VARIED
    values = fold_scores(
        stored(folder, "predictions.parquet", method="rbf-sl+svm@mlp@logmel+chroma"), of_classes("accuracy")
    )
    assert rows[3][3].replace("★", "") == shown(*corrected(values, 48, 12))
    metrics = Page.of(written).tables["metrics"]
    assert metrics[0][:4] == ["approach", "learner", "network", "features"]
    assert len(metrics) == 1 + 2 * 6 + 1
    found = {(r["approach"], r["learner"], r["network"], r["features"]) for r in records(written, "scores")}
    assert found == {(a, "" if a == "chance" else "svm", n, f) for a, n, f in VARIED}


def test_learners_are_compared_and_figures_drawn_for_each_network_and_features(varied):
    _, written = varied
    pairs = {(test["a"], test["b"]) for test in records(written, "kernels-significance")}
    assert ("rbf-sl+svm@mlp@logmel", "rbf-sl+svm:C=10@mlp@logmel") in pairs
    assert len(pairs) == 6
    figures = {path.stem for path in written.figures}
    assert {"map-rbf-sl@gru@logmel", "map-rbf-sl@mlp@logmel+chroma", "similarity-rbf-sl@mlp@logmel"} <= figures
    assert {"confusion-stats@logmel", "confusion-rbf-sl@gru@logmel"} <= figures
    assert {row[0] for row in Page.of(written).tables["curves"][1:]} == {
        f"rbf-sl+{learner}@{network}@{features}"
        for learner in ("svm", "svm:C=10")
        for network in ("gru", "mlp")
        for features in ("logmel", "logmel+chroma")
    }


def test_the_overview_tells_columns_apart_by_what_differs(tmp_path):
    for name, features in {"one": "logmel", "two": "chroma"}.items():
        skill = {"nn": 0.3, "chance": 0.0}
        write_report_run(tmp_path / "grid" / name, skill=skill, features=(features,), n_tracks=30)
    written = report(write_grid(tmp_path / "grid", ["one", "two"]))
    assert Page.of(written).tables["overview"][0][3:] == ["nn@logmel", "chance", "nn@chroma"]


def test_the_overview_of_an_experiment_shows_every_run_that_has_started(tmp_path):
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
    assert "1 of 3 runs has not started" in page.captions["overview"]
    assert [(r["run"], r["tracks"]) for r in records(written, "datasets")] == [("one", "300"), ("two", "60")]
    assert [row[0] for row in page.tables["overview"][1:]] == ["one", "two"]
    assert [link for link in page.attributes("href") if link.count("-") == 1] == ["#run-1", "#run-2"]
    verdicts = [text for text in page.texts("h2") if text.startswith("folder: ")]
    assert [text for text in page.texts("a") if text.startswith("folder: ")] == verdicts
    assert "rbf-sl beats nn" in verdicts[0]
    assert re.findall(r"one-scores\.(csv|tex)", " ".join(map(str, written.tables))) == ["csv", "tex"]
