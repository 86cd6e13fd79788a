"""The scores of a run: from predictions, recomputed with scikit-learn, scipy and numpy; what is left out, and drawn."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from mirembed import Classification, Regression, Tags, Target
from mirembed.runs.scores import (
    Scores,
    all_lines,
    describe_undefined,
    fold_scores,
    lines,
    over_folds,
    paired_scores,
    score,
)
from mirembed.runs.tables import Predictions
from mirembed.statistics.intervals import Interval

GENRES = Classification(("blues", "jazz", "rock"))
MOODS = Tags(("calm", "loud", "rare"))
EMOTIONS = Regression((Target("valence"), Target("arousal")))
N, N_FOLDS = 60, 5
FOLDS = np.arange(N) % N_FOLDS
IDS = np.array([f"{number:03d}" for number in range(N)])


def predictions(truth, predicted, scores=None, seeds=None, folds=FOLDS, ids=IDS) -> Predictions:
    seeds = np.zeros(len(ids), np.int64) if seeds is None else seeds
    truth, predicted = (np.reshape(values, (len(ids), -1)) for values in (truth, predicted))
    return Predictions(seeds, folds, ids, truth, predicted, scores)


def of_targets(seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    truth = rng.normal(5, 2, (N, 2))
    return predictions(truth, truth + rng.normal(0, 2, (N, 2)))


def of_tags() -> Predictions:
    """No track of fold 0 has the tag rare, and every track of fold 1 is calm."""
    rng = np.random.default_rng(1)
    truth = (rng.random((N, 3)) < (0.5, 0.4, 0.3)).astype(np.int64)
    truth[FOLDS == 0, 2], truth[FOLDS == 1, 0] = 0, 1
    scores = truth + rng.normal(0, 1, (N, 3))
    return predictions(truth, (scores > 0.5).astype(np.int64), scores)


def one(of: Predictions, task, **settings) -> Scores:
    [found] = score({"rbf-sl": of}, task, N - N / N_FOLDS, **settings)
    return found


def by_fold(of: Predictions, function, values=None) -> np.ndarray:
    """Return a metric of each fold and column, NaN where ``function`` is not defined."""
    values = of.predicted if values is None else values
    columns = range(of.truth.shape[1])
    return np.array(
        [[function(of.truth[f == FOLDS, c], values[f == FOLDS, c]) for c in columns] for f in range(N_FOLDS)]
    )


def test_every_metric_of_targets_is_a_mean_over_targets_and_then_over_folds():
    of = of_targets()
    expected = {
        "r": lambda x, y: scipy.stats.pearsonr(x, y).statistic,
        "spearman": lambda x, y: scipy.stats.spearmanr(x, y).statistic,
        "r2": sklearn.metrics.r2_score,
        "rmse": sklearn.metrics.root_mean_squared_error,
        "mae": sklearn.metrics.mean_absolute_error,
    }
    found = one(of, EMOTIONS)
    for name, function in expected.items():
        values = by_fold(of, function)
        assert found.intervals[name, None].mean == pytest.approx(values.mean())
        assert found.intervals[name, "arousal"].mean == pytest.approx(values[:, 1].mean())
        pooled = [function(of.truth[:, column], of.predicted[:, column]) for column in range(2)]
        assert found.pooled[name, None].mean == pytest.approx(np.mean(pooled))
        assert found.pooled[name, "valence"].mean == pytest.approx(pooled[0])


def test_tags_are_scored_by_their_ranking_and_what_a_fold_cannot_rank_is_left_out():
    of = of_tags()
    found = one(of, MOODS)
    auc = by_fold(of, lambda t, s: sklearn.metrics.roc_auc_score(t, s) if 0 < t.mean() < 1 else np.nan, of.scores)
    precision = by_fold(
        of, lambda t, s: sklearn.metrics.average_precision_score(t, s) if t.any() else np.nan, of.scores
    )
    assert (np.isnan(auc).sum(), np.isnan(precision).sum()) == (2, 1)
    for name, values in (("roc_auc", auc), ("average_precision", precision)):
        assert found.intervals[name, None].mean == pytest.approx(np.nanmean(values, axis=1).mean())
        assert found.intervals[name, "rare"].mean == pytest.approx(np.nanmean(values[:, 2]))
    macro = sklearn.metrics.roc_auc_score(of.truth, of.scores, average="macro")
    assert found.pooled["roc_auc", None].mean == pytest.approx(macro)
    assert found.undefined == {
        "roc_auc": {"no positive": 1, "no negative": 1},
        "average_precision": {"no positive": 1},
    }
    assert found.headline == "roc_auc"
    assert list(found.by_column) == list(MOODS.classes)


def test_recall_is_scored_by_class_and_its_mean_is_balanced_accuracy():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 3, (2, N))
    found = one(predictions(truth, predicted), GENRES)
    folds = [fold == FOLDS for fold in range(N_FOLDS)]
    recalls = [sklearn.metrics.recall_score(truth[f], predicted[f], labels=range(3), average=None) for f in folds]
    assert found.intervals["recall", "rock"].mean == pytest.approx(np.mean(recalls, axis=0)[2])
    assert found.intervals["balanced_accuracy", None].mean == pytest.approx(np.mean(recalls))
    assert ("recall", None) not in found.intervals
    assert found.by_column == {}


def test_targets_that_a_fold_cannot_score_are_left_out_and_counted_by_their_reason():
    of = of_targets()
    of.truth[FOLDS == 0, 0] = 3
    of.predicted[FOLDS == 1] = 4
    found = one(of, EMOTIONS)
    assert found.undefined["r"] == {"constant truth": 1, "constant prediction": 2}
    assert found.undefined["r2"] == found.undefined["ccc"] == {"constant truth": 1}
    assert "rmse" not in found.undefined
    r = fold_scores(of, EMOTIONS)
    assert r["r", None][0] == r["r", "arousal"][0]
    assert np.isnan([r["r", None][1], r["r", "valence"][0], r["r", "valence"][1]]).all()
    assert found.intervals["r", None].mean == pytest.approx(r["r", None][[0, 2, 3, 4]].mean())
    described = describe_undefined("r", found.undefined["r"])
    assert "3 pairs of fold and target" in described
    assert "constant truth: 1" in described


def test_a_method_that_guesses_one_number_in_each_fold_has_no_r_but_an_error():
    of = of_targets()
    guesses = np.array([of.truth[fold != FOLDS].mean(axis=0) for fold in FOLDS])
    found = one(predictions(of.truth, guesses), EMOTIONS)
    for name in ("r", "r_squared", "spearman"):
        assert found.intervals[name, None] == found.pooled[name, None] == Interval(None, None, None)
        assert found.undefined[name] == {"constant prediction": 2 * N_FOLDS}
    assert found.intervals["ccc", None].mean == pytest.approx(0, abs=1e-12)
    assert found.pooled["mae", "valence"].mean == pytest.approx(np.abs(guesses - of.truth)[:, 0].mean())


def test_one_test_track_in_a_fold_has_no_r_but_all_together_have_one():
    of = of_targets()
    each = predictions(of.truth, of.predicted, folds=np.arange(N))
    found = one(each, EMOTIONS)
    assert found.undefined["r"] == {"constant truth": 2 * N}
    expected = [scipy.stats.pearsonr(of.truth[:, c], of.predicted[:, c]).statistic for c in range(2)]
    assert (found.intervals["r", None].mean, found.pooled["r", None].mean) == (None, pytest.approx(np.mean(expected)))


def test_two_methods_are_paired_over_what_both_have_a_score_for():
    a, b = of_targets(0), of_targets(0)
    a.predicted[FOLDS == 0, 0], b.predicted[FOLDS == 1, 1], b.predicted[FOLDS == 2] = 1, 1, 1
    in_a, in_b = fold_scores(a, EMOTIONS), fold_scores(b, EMOTIONS)
    x, y = paired_scores(in_a, in_b, ("r", None))
    assert (x[0], y[0]) == (in_a["r", "arousal"][0], in_b["r", "arousal"][0])
    assert (x[1], y[1]) == (in_a["r", "valence"][1], in_b["r", "valence"][1])
    assert np.isnan([x[2], y[2]]).all()
    np.testing.assert_allclose(x[3:], in_a["r", None][3:])
    x, y = paired_scores(in_a, in_b, ("r", "valence"))
    assert np.isnan(x).tolist() == np.isnan(y).tolist() == [True, False, True, False, False]


def test_intervals_stay_within_the_range_of_their_metric():
    of = of_targets()
    perfect = np.array([0.9, 1.0, 1.0, 1.0, 1.0])
    interval = over_folds(("r", None), perfect, of, N - N / N_FOLDS)
    assert (interval.mean, interval.high) == (pytest.approx(0.98), 1)
    assert over_folds(("rmse", None), perfect, of, N - N / N_FOLDS).high > 1
    assert over_folds(("rmse", None), perfect - 0.9, of, N - N / N_FOLDS).low == 0
    assert over_folds(("r", None), np.full(N_FOLDS, np.nan), of, 48) == Interval(None, None, None)
    assert over_folds(("r", None), np.array([0.5, *[np.nan] * 4]), of, 48) == Interval(0.5, None, None)


def test_the_chosen_metric_comes_first():
    assert all_lines(EMOTIONS, "rmse")[:4] == [("rmse", None), ("rmse", "valence"), ("rmse", "arousal"), ("r", None)]
    assert lines(EMOTIONS, "rmse")[:4] == [("rmse", None), ("rmse", "valence"), ("rmse", "arousal"), ("r", None)]
    assert one(of_targets(), EMOTIONS, metric="mae").headline == "mae"
    assert set(all_lines(EMOTIONS, "rmse")) == set(all_lines(EMOTIONS))
    single = Regression((Target("valence"),))
    assert ("r", "valence") not in all_lines(single)


@pytest.mark.parametrize(("of", "task"), [(of_targets(), EMOTIONS), (of_tags(), MOODS)])
def test_scores_are_read_back_from_their_json(of, task):
    found = one(of, task)
    assert Scores.from_json("rbf-sl", json.loads(json.dumps(found.to_json())), task) == found
    assert set(found.intervals) == set(found.pooled) == set(all_lines(task))


# The bootstrap


def test_where_folds_keep_groups_apart_the_bootstrap_draws_groups():
    """Six artists of ten tracks, of whom a method gets all tracks right or all wrong; ten tracks have no artist."""
    artists = {track: f"artist {number // 10}" for number, track in enumerate(IDS.tolist()) if number < 50}
    right = np.array([artists.get(track, track) in ("artist 0", "artist 1", "artist 2", "055") for track in IDS])
    of = predictions(np.zeros(N, np.int64), np.where(right, 0, 1))
    over_tracks, over_groups = one(of, GENRES), one(of, GENRES, groups=artists)
    assert over_tracks.pooled["accuracy", None].mean == over_groups.pooled["accuracy", None].mean == right.mean()
    units = [
        np.flatnonzero([artists.get(t, t) == unit for t in IDS])
        for unit in dict.fromkeys(artists.get(t, t) for t in IDS)
    ]
    assert len(units) == 15
    rng = np.random.default_rng(3)
    drawn = [right[np.concatenate([units[n] for n in rng.integers(0, 15, 15)])].mean() for _ in range(4000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    interval = over_groups.pooled["accuracy", None]
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.04)
    narrow = over_tracks.pooled["accuracy", None]
    assert narrow.high - narrow.low < 0.6 * (high - low)


def test_the_bootstrap_of_a_ranking_is_that_of_scikit_learn_s_metric():
    of, rng = of_tags(), np.random.default_rng(5)
    interval = one(of, MOODS).pooled["roc_auc", "loud"]
    values = []
    while len(values) < 600:
        rows = rng.integers(0, N, N)
        if 0 < of.truth[rows, 1].mean() < 1:
            values.append(sklearn.metrics.roc_auc_score(of.truth[rows, 1], of.scores[rows, 1]))
    low, high = np.quantile(values, [0.025, 0.975])
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.15 * (high - low))


def test_several_seeds_are_averaged_in_each_resample():
    a, b = of_targets(0), of_targets(0)
    both = predictions(
        np.concatenate([a.truth, b.truth]),
        np.concatenate([a.predicted, b.predicted]),
        seeds=np.repeat([0, 1], N),
        folds=np.tile(FOLDS, 2),
        ids=np.tile(IDS, 2),
    )
    assert one(both, EMOTIONS).pooled["r", None] == one(a, EMOTIONS).pooled["r", None]


# The command


def test_an_unknown_metric_is_reported_before_a_dataset_is_opened(mirembed):
    said = mirembed("evaluate", "--metric", "acuracy", code=1).stderr
    assert "--metric acuracy" in said
    assert "accuracy?" in said


@pytest.mark.slow
def test_the_metric_of_a_command_is_the_headline_of_its_run(mirembed, tones):
    mirembed("extract", "--dataset", "folder", "--audio", tones)
    evaluate = ["evaluate", "--cv", 3, "--approach", "stats", "--approach", "chance"]
    said = mirembed(*evaluate, "--metric", "rmse", code=1).stderr
    assert "--metric rmse" in said
    assert "balanced_accuracy" in said
    assert not (mirembed.folder / "mirembed-store" / "runs").exists()
    found = json.loads(mirembed(*evaluate, "--metric", "balanced_accuracy", "--json").stdout)
    chance = found["approaches"]["chance"]
    assert (found["metric"], found["bootstrap"]) == ("balanced_accuracy", "tracks")
    assert next(iter(chance)) == "balanced_accuracy"
    assert found["chance"] == pytest.approx(chance["balanced_accuracy"]["mean"])
    assert set(chance["by_class"]["recall"]) == {path.name for path in tones.iterdir() if path.is_dir()}
    compared = json.loads(mirembed("compare", found["run"], "--json").stdout)
    assert compared["families"][0]["tests"][0]["metric"] == "balanced_accuracy"
    assert 'metric = "balanced_accuracy"' in (mirembed.folder / found["run"] / "experiment.toml").read_text()
