"""Official splits, and tracks left out because they are known to be faulty."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import Command
from scipy.stats import t as student
from sklearn.metrics import accuracy_score
from small_networks import seeded
from small_store import (
    BANDS,
    CLASSES,
    LOGMEL,
    TARGETS,
    Notes,
    experiment,
    noise_with_peak,
    open_tracks,
    workers_run,
    write_frames,
    write_targets,
)
from small_store import evaluate as run_evaluation
from typer.testing import CliRunner, Result

from mirembed import Classification, Split
from mirembed.cli.main import app
from mirembed.config import Settings
from mirembed.datasets.catalog import exclude_tracks
from mirembed.datasets.splits import Fold, official_folds
from mirembed.errors import EvaluationError, SpecError, StoreError
from mirembed.evaluate.plan import choose_splits, plan_run
from mirembed.progress import NO_PROGRESS, Progress
from mirembed.registry import Registry
from mirembed.runs.folder import RunFolder
from mirembed.runs.scores import Scores, score
from mirembed.runs.tables import Predictions
from mirembed.specs import Spec
from mirembed.store import DatasetInfo, Store, StoredTrack
from mirembed.store.files import read_json, read_table
from mirembed.store.tracks import Tracks
from mirembed.training.engine.by_torch import TorchEngine
from mirembed.training.excerpts import Normalization
from mirembed_datasets.gtzan import Gtzan

pytestmark = pytest.mark.slow

SCHEMES = Gtzan().schemes()
FAULTS = Gtzan().known_faults()
GENRES = ("blues", "jazz", "rock")
PEAKS = {"blues": 0.1, "jazz": 0.5, "rock": 0.9}
"""Where the spectrum of a genre has its peak, from 0 to 1; of the others 0.3."""

FAULTY = ["disco.00051", "disco.00060", "jazz.00033", "jazz.00054"]
"""In no list; in no list; in one of the two schemes; in both of them."""


def some(clips: frozenset[str], genre: str, count: int) -> list[str]:
    """Return clips of a genre from all over a list, so that they are by many artists."""
    listed = sorted(clip for clip in clips if clip.startswith(f"{genre}.") and clip not in FAULTS)
    return listed[:: len(listed) // count][:count]


(KERELIUK,) = SCHEMES["kereliuk"]
TRAIN = [clip for genre in GENRES for clip in some(KERELIUK.train, genre, 6)]
TEST = [clip for genre in GENRES for clip in some(KERELIUK.test, genre, 3)]
CLIPS = sorted(TRAIN + TEST + FAULTY)


def peak_of(clip: str, misleading: bool) -> float:
    peak = PEAKS.get(clip.split(".")[0], 0.3)
    return (peak + 0.4) % 1 if misleading else peak


def write_gtzan(root: Path, clips: Sequence[str], groups: Mapping[str, str]) -> Store:
    """Write a store as if these clips had been extracted.

    Each genre is a peak in other bands, but for every fourth clip, which is misleading.
    """
    store = Store(root)
    store.create()
    dataset = store.dataset(Spec("gtzan"))
    genres = Classification(tuple(sorted({clip.split(".")[0] for clip in clips})))
    info = DatasetInfo("gtzan", {"name": "gtzan"}, genres, "audio", len(clips), 1000 - len(clips))
    dataset.write_info(info)
    dataset.write_tracks(
        [StoredTrack(clip, clip, clip.split(".")[0], groups.get(clip), f"{clip}.wav", 1, 1) for clip in clips], info
    )
    frames = [
        noise_with_peak(peak_of(clip, misleading=number % 4 == 3), 120 + 7 * number, seed=number)
        for number, clip in enumerate(clips)
    ]
    write_frames(store, LOGMEL, dict(zip(clips, frames, strict=True)))
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with some clips of GTZAN: ``TRAIN`` and ``TEST`` of the split kereliuk, and four that are faulty.

    One artist stands on both sides of that split.
    """
    root = tmp_path_factory.mktemp("gtzan")
    write_gtzan(root, CLIPS, {TRAIN[0]: "ann", TEST[0]: "ann", TEST[1]: "ann", TEST[2]: "bob"})
    return root


@pytest.fixture(scope="module")
def tracks(store: Path) -> Tracks:
    return open_tracks(Store(store))


def evaluate(
    tracks: Tracks,
    official: Mapping[str, Sequence[Split]],
    runs: Path,
    progress: Progress = NO_PROGRESS,
    seeds: Sequence[int] = (0,),
) -> tuple[RunFolder, list[Scores]]:
    """Evaluate one epoch of two approaches on official splits, in this process."""
    [scheme] = official
    settings = experiment("rbf-sl", "nn", epochs=1, folds=scheme, seed=tuple(seeds))
    with workers_run():
        return run_evaluation(tracks, settings, Registry.discover(), runs, official=official, progress=progress)


def command(*arguments: object) -> Result:
    """Run a command for two epochs in this process."""
    with workers_run():
        result = CliRunner().invoke(
            app, [*map(str, arguments), "--network", "mlp", "--epochs", "2"], catch_exceptions=False
        )
    assert result.exit_code == 0
    return result


def predicted(run: RunFolder, approach: str = "rbf-sl") -> list[dict[str, Any]]:
    rows = read_table(run.folder / "predictions.parquet").to_pylist()
    return [row for row in rows if row["approach"] == approach]


# From lists to folds


def folds_of(splits: Sequence[Split], ids: str = "abcdef", labels: Sequence[int] = (0, 1, 2, 0, 1, 2)) -> Any:
    return official_folds(CLASSES, np.array(labels), splits, list(ids))


def contents(folds: Sequence[Fold]) -> list[tuple[int, list[int], list[int]]]:
    return [(fold.index, fold.train.tolist(), fold.test.tolist()) for fold in folds]


def split(train: str, test: str) -> Split:
    return Split(frozenset(train), frozenset(test))


def test_a_fold_has_the_rows_of_the_tracks_in_its_lists() -> None:
    folds, notes = folds_of([split("abd", "cef"), split("cef", "abd")])
    assert contents(folds) == [(0, [0, 1, 3], [2, 4, 5]), (1, [2, 4, 5], [0, 1, 3])]
    assert all(fold.train.dtype == fold.test.dtype == np.int64 for fold in folds)
    [note] = notes
    assert note.endswith(": middle (fold 0), high (fold 1)")


def test_unlisted_tracks_and_missing_tracks_are_counted() -> None:
    folds, notes = folds_of([split("abcxy", "de"), split("abc", "dez")])
    assert contents(folds) == [(0, [0, 1, 2], [3, 4]), (1, [0, 1, 2], [3, 4])]
    unlisted, missing = notes
    assert unlisted.startswith("1 of 6 tracks ")
    assert missing.startswith("3 of 8 tracks ")


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (split("xyz", "abc"), "official split 1 .*0 training tracks .*3 test tracks"),
        (split("abc", "xyz"), "official split 1 .*3 training tracks .*0 test tracks"),
        (split("abcd", "def"), "official split 1 .*1 track in both .* d;"),
        (split("ad", "bc"), "training part of fold 1 .*class 'high'"),
    ],
)
def test_an_unusable_split_is_an_error(lists: Split, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        folds_of([split("abc", "def"), lists])


def test_other_seeds_do_not_narrow_the_interval_of_official_splits() -> None:
    correct = [True, False, True, True, False, False]

    def table(n_seeds: int) -> pa.Table:
        return pa.Table.from_pylist(
            [
                {
                    "method": "rbf-sl",
                    "seed": seed,
                    "fold": row // 2,
                    "id": str(row),
                    "label": "high",
                    "prediction": "high" if right else "low",
                }
                for seed in range(n_seeds)
                for row, right in enumerate(correct)
            ]
        )

    [once] = score(Predictions.by_method(table(1), CLASSES), CLASSES, 4.0, official=True)
    [often] = score(Predictions.by_method(table(10), CLASSES), CLASSES, 4.0, official=True)
    assert asdict(often.intervals["accuracy", None]) == pytest.approx(asdict(once.intervals["accuracy", None]))


def test_targets_need_no_second_class() -> None:
    folds, notes = official_folds(TARGETS, np.zeros((3, 2)), [split("a", "bc")], ["a", "b", "c"])
    assert contents(folds) == [(0, [0], [1, 2])]
    assert notes == []


# What may be asked for


def choose(folds: str | None, cv: int | None = None, official: Mapping[str, Any] = SCHEMES) -> Settings:
    return choose_splits(experiment(folds=folds, cv=cv), CLASSES, official)


def test_an_official_scheme_is_chosen_by_its_name(tracks: Tracks) -> None:
    chosen = choose("sturm3")
    assert (chosen.folds, chosen.cv, chosen.splits) == ("sturm3", None, None)
    for scheme, described in {"sturm3": "3 official sturm3 splits", "kereliuk": "1 official kereliuk split"}.items():
        planned = plan_run(experiment(folds=scheme), tracks, Registry.discover(), {}, SCHEMES)
        assert f", {described} (" in planned.describe()


def test_official_splits_are_not_the_default() -> None:
    chosen = choose(None)
    assert (chosen.folds, chosen.cv, chosen.splits) == ("stratified", 10, None)


def test_a_number_of_folds_is_for_the_general_schemes_only() -> None:
    chosen = choose("random", 7)
    assert (chosen.folds, chosen.cv) == ("random", 7)
    with pytest.raises(SpecError, match=r"--cv 3 and --folds sturm3"):
        choose("sturm3", 3)


def test_an_unknown_scheme_is_an_error_that_names_the_official_splits() -> None:
    expected = r"--folds sturm: .*random, stratified, grouped, .*kereliuk, sturm3"
    with pytest.raises(SpecError, match=expected):
        choose("sturm")
    with pytest.raises(SpecError, match=r"--folds sturm3: .* grouped.* no official splits"):
        choose("sturm3", official={})


# One split


@pytest.fixture(scope="module")
def one_split(tracks: Tracks, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, list[Scores], list[str]]:
    """A run on the split kereliuk with two seeds, and its notes."""
    notes, official = Notes(), {"kereliuk": SCHEMES["kereliuk"]}
    run, scores = evaluate(tracks, official, tmp_path_factory.mktemp("runs"), notes, seeds=(0, 1))
    return run, scores, notes.notes


def test_only_the_tracks_of_the_test_list_are_predicted(
    one_split: tuple[RunFolder, list[Scores], list[str]],
) -> None:
    run, _, _ = one_split
    tested = set(TEST) | (set(FAULTY) & KERELIUK.test)
    for approach in ("rbf-sl", "nn"):
        counts = Counter(row["id"] for row in predicted(run, approach))
        assert counts == dict.fromkeys(tested, 2)
    folds = read_table(run.folder / "folds.parquet").to_pylist()
    assert {(row["id"], row["fold"]) for row in folds} == {(clip, 0) for clip in tested}
    configuration = read_json(run.folder / "manifest.json")["configuration"]
    assert (configuration["folds"], configuration["cv"], configuration["excluded"]) == ("kereliuk", None, {})


def test_a_single_split_has_no_interval_over_folds_but_one_over_tracks(
    one_split: tuple[RunFolder, list[Scores], list[str]],
) -> None:
    run, scores, _ = one_split
    for one in scores:
        rows = predicted(run, one.method)
        expected = accuracy_score([row["label"] for row in rows], [row["prediction"] for row in rows])
        over_folds, over_tracks = one.intervals["accuracy", None], one.pooled["accuracy", None]
        assert (over_folds.mean, over_folds.low, over_folds.high) == (pytest.approx(expected), None, None)
        assert over_tracks.mean == pytest.approx(expected)
        assert 0 <= over_tracks.low <= over_tracks.mean <= over_tracks.high <= 1
        assert one.pooled["macro_f1", None].low < one.pooled["macro_f1", None].high
    written = read_json(run.folder / "scores.json")["rbf-sl"]
    assert (written["accuracy"]["low"], written["accuracy"]["high"]) == (None, None)
    assert written["pooled"]["accuracy"]["low"] is not None


def test_notes_tell_what_to_know_about_the_split(one_split: tuple[RunFolder, list[Scores], list[str]]) -> None:
    """Two test tracks are by ``ann``, who has a training track too; ``bob`` has test tracks only."""
    _, _, told = one_split
    listed = KERELIUK.train | KERELIUK.test
    n_tested = len(set(CLIPS) & KERELIUK.test)
    assert len([n for n in told if n.startswith(f"{len(set(CLIPS) - listed)} of {len(CLIPS)} tracks ")]) == 1
    assert len([n for n in told if n.startswith(f"{len(listed - set(CLIPS))} of 930 tracks ")]) == 1
    small, shared = dict.fromkeys(note for note in told if note.startswith("warning: "))
    assert f"only {n_tested} tracks" in small
    assert f"2 of {n_tested} test tracks" in shared
    assert "--folds grouped" in shared


def test_targets_on_a_single_split_have_no_interval_over_folds(tmp_path: Path) -> None:
    tracks = open_tracks(write_targets(tmp_path))
    lists = [Split(frozenset(tracks.ids[:14]), frozenset(tracks.ids[14:]))]
    _, (score, _) = evaluate(tracks, {"official": lists}, tmp_path / "runs")
    assert {(interval.low, interval.high) for interval in score.intervals.values()} == {(None, None)}
    assert all(interval.low < interval.mean < interval.high for interval in score.pooled.values())


# Several splits


def test_three_splits_have_an_interval_over_folds(tracks: Tracks, tmp_path: Path) -> None:
    run, (score, _) = evaluate(tracks, {"sturm3": SCHEMES["sturm3"]}, tmp_path)
    rows = predicted(run)
    listed = frozenset().union(*(split.test for split in SCHEMES["sturm3"]))
    assert sorted(row["id"] for row in rows) == sorted(set(CLIPS) & listed)
    assert all(row["id"] in SCHEMES["sturm3"][row["fold"]].test for row in rows)

    hits = [[row["label"] == row["prediction"] for row in rows if row["fold"] == fold] for fold in range(3)]
    accuracies, n_test = [np.mean(of_fold) for of_fold in hits], len(rows) / 3
    variance = (1 / 3 + n_test / (len(rows) - n_test)) * np.var(accuracies, ddof=1)
    half = student.ppf(0.975, 2) * np.sqrt(variance)
    interval = score.intervals["accuracy", None]
    assert interval.mean == pytest.approx(np.mean(accuracies))
    assert (interval.low, interval.high) == pytest.approx((interval.mean - half, min(interval.mean + half, 1)))


# The command


def test_the_command_evaluates_an_official_split(store: Path) -> None:
    result = command("evaluate", "--store", store, "--folds", "kereliuk", "--json")
    report = json.loads(result.stdout)
    assert (report["folds"], report["n_tracks"], report["excluded"]) == ("kereliuk", len(CLIPS), {})
    accuracy, pooled = report["approaches"]["rbf-sl"]["accuracy"], report["approaches"]["rbf-sl"]["pooled"]["accuracy"]
    assert (accuracy["low"], accuracy["high"]) == (None, None)
    assert pooled["low"] <= pooled["mean"] <= pooled["high"]
    assert f"3 of {len(CLIPS)} tracks" in result.stderr


def test_the_table_shows_the_pooled_interval_of_a_single_split(store: Path) -> None:
    title, *lines = command("evaluate", "--store", store, "--folds", "kereliuk").stdout.splitlines()
    assert title == f"gtzan: 28 of {len(CLIPS)} tracks, 1 official kereliuk split (19 train, 9 test), 2 epochs"
    (row,) = [line.split("│")[1:-1] for line in lines if "│ rbf-sl" in line]
    assert ["[" in cell for cell in row] == [False, False, False, True]


def test_a_number_of_official_splits_is_an_error_before_anything_is_trained(mirembed: Command, store: Path) -> None:
    runs = sorted(store.glob("runs/*"))
    completed = mirembed("evaluate", "--store", store, "--folds", "kereliuk", "--cv", 5, code=1)
    assert completed.stderr.splitlines()[-1].startswith("error: --cv 5 and --folds kereliuk: ")
    assert sorted(store.glob("runs/*")) == runs


# Tracks that are left out


def test_known_faults_are_left_out_and_named(tracks: Tracks) -> None:
    notes = Notes()
    kept = exclude_tracks(Registry.discover(), tracks, "known-faults", notes)
    [note] = notes.notes
    assert "4 tracks" in note
    assert note.endswith(", ".join(FAULTY))
    assert kept.excluded == {clip: FAULTS[clip] for clip in FAULTY}
    assert kept.excluded["jazz.00054"] == "corrupt in many copies"
    assert kept.ids == sorted(TRAIN + TEST)


def test_a_class_without_tracks_disappears(tracks: Tracks) -> None:
    kept = tracks.without(dict.fromkeys(FAULTY, "faulty"))
    assert tracks.task.classes == ("blues", "disco", "jazz", "rock")
    assert kept.task.classes == ("blues", "jazz", "rock")
    assert [kept.task.classes[index] for index in kept.label_array] == [clip.split(".")[0] for clip in kept.ids]


def test_a_long_list_of_faults_is_cut_short(tmp_path: Path) -> None:
    clips = sorted(FAULTS)[:14]
    notes = Notes()
    kept = exclude_tracks(
        Registry.discover(), open_tracks(write_gtzan(tmp_path, [*clips, *TEST], {})), "known-faults", notes
    )
    [note] = notes.notes
    assert "14 tracks" in note
    assert note.endswith(f"{', '.join(clips[:10])} and 4 more")
    assert sorted(kept.excluded) == clips


def test_nothing_is_left_out_unasked_or_without_faults(tracks: Tracks, tmp_path: Path) -> None:
    notes = Notes()
    assert exclude_tracks(Registry.discover(), tracks, None, notes) is tracks
    assert notes.notes == []
    sound = open_tracks(write_gtzan(tmp_path, TEST, {}))
    assert exclude_tracks(Registry.discover(), sound, "known-faults", notes) is sound
    [note] = notes.notes
    assert "71 known faults of gtzan" in note


def test_a_dataset_without_known_faults_is_an_error(tmp_path: Path) -> None:
    tracks = open_tracks(write_targets(tmp_path))
    with pytest.raises(SpecError, match="--exclude known-faults: folder "):
        exclude_tracks(Registry.discover(), tracks, "known-faults", Notes())


def test_only_known_faults_can_be_left_out(tracks: Tracks) -> None:
    with pytest.raises(SpecError, match="--exclude jazz: expected known-faults"):
        exclude_tracks(Registry.discover(), tracks, "jazz", Notes())


def test_evaluate_leaves_known_faults_out_and_records_why(store: Path) -> None:
    options = ["--folds", "kereliuk", "--exclude", "known-faults", "--json"]
    result = command("evaluate", "--store", store, *options)
    report = json.loads(result.stdout)
    excluded = {clip: FAULTS[clip] for clip in FAULTY}
    assert (report["n_tracks"], report["excluded"]) == (len(TRAIN + TEST), excluded)
    assert f"{', '.join(FAULTY)}\n" in result.stderr
    run = RunFolder(Path(report["run"]))
    configuration = run.manifest["configuration"]
    assert (configuration["excluded"], configuration["n_tracks"]) == (excluded, len(TRAIN + TEST))
    assert configuration["task"]["classes"] == ["blues", "jazz", "rock"]
    assert {row["id"] for row in predicted(run)} == set(TEST)


def test_fit_leaves_known_faults_out_and_records_why(store: Path) -> None:
    result = command("fit", "--store", store, "--exclude", "known-faults", "--name", "faultless", "--json")
    assert f"{', '.join(FAULTY)}\n" in result.stderr
    (model,) = json.loads(result.stdout)["models"]
    manifest = read_json(Path(model["model"]) / "model.json")
    assert manifest["provenance"]["dataset"]["excluded"] == {clip: FAULTS[clip] for clip in FAULTY}
    assert manifest["provenance"]["dataset"]["n_tracks"] == len(TRAIN + TEST)
    assert manifest["task"]["classes"] == ["blues", "jazz", "rock"]
    embeddings = read_table(Path(model["embeddings"])).to_pylist()  # of all tracks: the others can be searched, too
    assert sorted(row["recording"] for row in embeddings if row["in_sample"]) == sorted(TRAIN + TEST)


def test_a_run_without_the_faults_is_another_run(store: Path, tracks: Tracks) -> None:
    kept = tracks.without({FAULTY[0]: "faulty"})
    assert kept.digest != tracks.digest
    assert kept.without({FAULTY[1]: "faulty"}).digest != kept.digest


# Tables without some of their tracks


def test_the_remaining_tracks_keep_their_frames_labels_and_groups(tracks: Tracks) -> None:
    left_out = {tracks.ids[row]: "why" for row in (0, 7, len(tracks.ids) - 1)}
    kept = tracks.without(left_out)
    assert kept.excluded == left_out
    assert kept.ids == [clip for clip in tracks.ids if clip not in left_out]
    frames = tracks.frames["logmel"].open()
    for row, clip in enumerate(kept.ids):
        before = tracks.ids.index(clip)
        assert (kept.labels[row], kept.groups[row]) == (tracks.labels[before], tracks.groups[before])
        np.testing.assert_array_equal(
            frames_of(kept, row, kept.frames["logmel"].open()),
            frames_of(tracks, before, frames),
        )
    assert len(tracks.ids) == len(CLIPS)


def frames_of(tracks: Tracks, row: int, frames: np.ndarray) -> np.ndarray:
    places = tracks.frames["logmel"]
    return frames[places.starts[row] : places.starts[row] + places.lengths[row]]


def test_embeddings_equal_those_of_the_full_table_to_the_bit(tracks: Tracks) -> None:
    kept = tracks.without({tracks.ids[row]: "why" for row in range(0, len(tracks.ids), 3)})
    network = seeded("gru", 2 * BANDS, (0, 0))
    normalization = Normalization.fit(tracks.frames["logmel"].moments())

    def embeddings(of: Tracks) -> dict[str, np.ndarray]:
        frames = of.frames["logmel"]
        rows = TorchEngine(network).embed_tracks(frames.open(), frames.starts, frames.lengths, normalization)
        return dict(zip(of.ids, rows, strict=True))

    full, part = embeddings(tracks), embeddings(kept)
    assert 0 < len(part) < len(full)
    for clip, embedding in part.items():
        np.testing.assert_array_equal(embedding, full[clip])


def test_targets_stay_with_their_tracks(tmp_path: Path) -> None:
    tracks = open_tracks(write_targets(tmp_path))
    kept = tracks.without({"000": "why", "017": "why"})
    assert kept.task == tracks.task
    np.testing.assert_array_equal(kept.labels, np.delete(tracks.labels, [0, 17], axis=0))


def test_excluding_all_tracks_is_an_error(tracks: Tracks) -> None:
    with pytest.raises(StoreError, match=f"{len(CLIPS)} tracks of gtzan"):
        tracks.without(dict.fromkeys(CLIPS, "why"))
