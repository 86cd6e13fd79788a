"""``mirembed extract --limit``: features of a sample, drawn evenly and the same one every time."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, write_tones

from mirembed import Track
from mirembed.extract.limit import drawn_files
from mirembed.store import recordings


def tracks(**labels: Any) -> list[Track]:
    """Return numbered tracks: ``n`` of each of ``name=(n, label)``, in a folder of that name."""
    return [
        Track(f"{name}/{number}", Path(f"/music/{name}/{number}.mp3"), label)
        for name, (n_tracks, label) in labels.items()
        for number in range(n_tracks)
    ]


def folders(files: set[Path]) -> dict[str, int]:
    return dict(Counter(path.parent.name for path in files))


def test_every_class_contributes_the_same_number_as_far_as_it_can() -> None:
    found = drawn_files(tracks(jazz=(100, "jazz"), rock=(20, "rock"), soul=(2, "soul")), 32, ())
    assert folders(found) == {"jazz": 15, "rock": 15, "soul": 2}


def test_tracks_with_tags_are_drawn_evenly_over_their_rarest_tags() -> None:
    pop, both, neither = frozenset({"pop"}), frozenset({"pop", "sad"}), frozenset()
    found = drawn_files(tracks(pop=(50, pop), both=(10, both), neither=(10, neither)), 12, ())
    assert folders(found) == {"pop": 4, "both": 4, "neither": 4}


def test_unlabeled_tracks_come_last_evenly_over_folders() -> None:
    some = tracks(album=(9, None), single=(1, None), known=(3, "rock"))
    assert folders(drawn_files(some, 3, ())) == {"known": 3}
    assert folders(drawn_files(some, 8, ())) == {"known": 3, "single": 1, "album": 4}


def test_a_limit_above_the_number_of_files_draws_all() -> None:
    assert len(drawn_files(tracks(jazz=(5, "jazz"), rock=(5, "rock")), 100, ())) == 10


def test_a_larger_limit_contains_a_smaller_one_whatever_the_order_of_the_listing() -> None:
    some = tracks(jazz=(30, "jazz"), rock=(20, "rock"), other=(10, None))
    before: set[Path] = set()
    for limit in range(1, 61):
        found = drawn_files(some, limit, ())
        assert found == drawn_files(some[::-1], limit, ())
        assert len(found) == limit
        assert before < found
        before = found


def test_new_tracks_do_not_change_the_order_of_others() -> None:
    few, many = tracks(rock=(20, "rock")), tracks(rock=(40, "rock"))
    order = [next(iter(drawn_files(few, n + 1, ()) - drawn_files(few, n, ()))) for n in range(20)]
    known = {track.path for track in few}
    longer = [next(iter(drawn_files(many, n + 1, ()) - drawn_files(many, n, ()))) for n in range(40)]
    assert [path for path in longer if path in known] == order
    assert longer[:20] != order


def test_the_draw_is_random() -> None:
    numbers = sorted(int(path.stem) for path in drawn_files(tracks(rock=(1000, "rock")), 100, ()))
    assert 400 < sum(numbers) / 100 < 600
    assert numbers != list(range(numbers[0], numbers[0] + 100))


def test_tracks_with_features_count() -> None:
    some = tracks(jazz=(10, "jazz"), rock=(10, "rock"))
    extracted = {f"rock/{number}" for number in range(10)}
    assert folders(drawn_files(some, 12, extracted)) == {"rock": 10, "jazz": 2}


def test_a_file_of_several_tracks_counts_once() -> None:
    one = Path("/music/one.mp3")
    found = drawn_files([Track("a", one, "x"), Track("b", one, "y"), Track("c", Path("/music/two.mp3"), "y")], 2, ())
    assert found == {one, Path("/music/two.mp3")}


# The command


def extract(mirembed: Command, *words: object, code: int = 0) -> dict[str, Any]:
    said = mirembed("extract", "--json", *words, code=code).stdout
    summary: dict[str, Any] = json.loads(said.splitlines()[-1])
    return summary


def stored(mirembed: Command) -> set[str]:
    """Return the ids of the tracks that have a recording."""
    import pyarrow.parquet as pq

    rows = pq.read_table(mirembed.folder / "mirembed-store/datasets/folder/tracks.parquet").to_pylist()
    return {row["id"] for row in rows if row["recording"] is not None}


@pytest.mark.slow
def test_a_limit_is_kept_by_repeated_commands_and_may_grow(mirembed: Command, tmp_path: Path) -> None:
    given = ["--dataset", "folder", "--audio", write_tones(tmp_path / "tones", n_tracks=4, seconds=0.3)]
    summary = extract(mirembed, *given, "--limit", "6")
    assert (summary["listed"], summary["extracted"], summary["stored"], summary["left"]) == (12, 6, 6, 6)
    first = stored(mirembed)
    assert Counter(track.partition("/")[0] for track in first) == {"low": 2, "middle": 2, "high": 2}
    summary = extract(mirembed, *given, "--limit", "6")
    assert (summary["extracted"], summary["unchanged"], summary["left"]) == (0, 6, 6)
    summary = extract(mirembed, *given, "--limit", "8")
    assert (summary["extracted"], summary["left"]) == (2, 4)
    assert first < stored(mirembed)
    summary = extract(mirembed, *given, "--limit", "2")
    assert (summary["extracted"], summary["stored"], summary["left"]) == (0, 8, 4)
    summary = extract(mirembed, *given)
    assert (summary["extracted"], summary["left"]) == (4, 0)


@pytest.mark.slow
def test_a_model_is_fitted_to_the_sample_and_the_store_is_sound(mirembed: Command, tmp_path: Path) -> None:
    given = ["--dataset", "folder", "--audio", write_tones(tmp_path / "tones", n_tracks=4, seconds=1.5)]
    assert "6 tracks left for later" in mirembed("extract", *given, "--limit", "6").stdout
    found = mirembed("evaluate", "--cv", "2", "--approach", "stats", "--json")
    assert json.loads(found.stdout)["n_tracks"] == 6
    assert "6 of the 12 tracks" in found.stderr
    mirembed("fit", "--epochs", "1")
    mirembed("store", "verify")
    (dataset,) = json.loads(mirembed("store", "info", "--json").stdout)["datasets"]
    assert (dataset["state"], dataset["tracks"], dataset["listed"]) == ("incomplete", 6, 12)
    listed = json.loads(mirembed("datasets", "--json").stdout)
    assert [one["stored"] for one in listed if one["name"] == "folder"] == ["6 of 12"]


@pytest.mark.slow
def test_the_tracks_left_for_later_are_embedded_by_update_and_the_sample_stays_the_same(
    mirembed: Command, tmp_path: Path
) -> None:
    given = ["--dataset", "folder", "--audio", write_tones(tmp_path / "tones", n_tracks=4, seconds=1.5)]
    extract(mirembed, *given, "--limit", "6")
    mirembed("fit", "--epochs", "1")
    frames = sorted(mirembed.folder.glob("mirembed-store/features/*/*.parquet"))
    updated = json.loads(mirembed("update", "folder-rbf-sl", "--json").stdout.splitlines()[-1])
    assert updated["embedded"] == 6
    assert sorted(mirembed.folder.glob("mirembed-store/features/*/*.parquet")) == frames
    summary = extract(mirembed, *given, "--limit", "6")
    assert (summary["extracted"], summary["stored"], summary["left"]) == (0, 6, 6)
    found = mirembed("evaluate", "--cv", "2", "--approach", "stats", "--json")
    assert json.loads(found.stdout)["n_tracks"] == 6
    mirembed("store", "verify")


@pytest.mark.slow
def test_a_file_that_failed_is_not_replaced_by_another(mirembed: Command, tmp_path: Path) -> None:
    audio = write_tones(tmp_path / "tones", n_tracks=4, seconds=0.3)
    given = ["--dataset", "folder", "--audio", audio, "--limit", "6"]
    extract(mirembed, *given)
    broken = audio / min(stored(mirembed))
    broken.write_bytes(b"RIFF")
    for _ in range(2):
        summary = extract(mirembed, *given, "--store", "other", code=2)
        assert (summary["stored"], summary["left"], len(summary["failures"])) == (5, 6, 1)


@pytest.mark.slow
def test_a_folder_that_was_renamed_is_recognized_by_the_sample(mirembed: Command, tmp_path: Path) -> None:
    audio = write_tones(tmp_path / "tones", n_tracks=4, seconds=0.3)
    given = ["--dataset", "folder", "--audio", audio, "--limit", "3"]
    extract(mirembed, *given)
    for folder in ("low", "middle", "high"):
        (audio / folder).rename(audio / folder.upper())
    summary = extract(mirembed, *given)
    assert (summary["moved"], summary["extracted"], summary["unlisted"], summary["left"]) == (3, 0, 0, 9)


@pytest.mark.slow
def test_files_left_for_later_are_not_read_every_time(
    mirembed: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if they have the size of a known recording, as all clips of a length have."""
    given = ["--dataset", "folder", "--audio", write_tones(tmp_path / "tones", n_tracks=4, seconds=0.3)]
    extract(mirembed, *given, "--limit", "6")
    before, read = stored(mirembed), []
    file_hash = recordings.file_hash
    monkeypatch.setattr(recordings, "file_hash", lambda path: (read.append(path.name), file_hash(path))[1])
    extract(mirembed, *given, "--limit", "6")
    assert read == []
    extract(mirembed, *given, "--limit", "8")
    assert len(read) == 2
    assert set(read) == {Path(track).name for track in stored(mirembed) - before}


@pytest.mark.parametrize("limit", ["0", "-1", "some"])
def test_a_limit_is_a_positive_number(mirembed: Command, limit: str) -> None:
    assert "--limit" in mirembed("extract", "--limit", limit, code=1).stderr
