"""The dataset ``mtg_jamendo``: its folders, tables and splits, in copies that look like the real one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import soundfile
from conftest import RATE, Command, tone

from mirembed import DatasetError, Listing, Split, Tags
from mirembed.specs import Spec
from mirembed.store import Store
from mirembed_datasets.mtg_jamendo import MtgJamendo

HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"
ROCK, PIANO, DARK, RARE = "genre---rock", "instrument---piano", "mood/theme---dark", "genre---rare"
TRACKS = {
    214: (14, (ROCK, PIANO)),
    3524: (530, (DARK,)),
    7400: (530, (ROCK, DARK)),
    12303: (1858, (PIANO,)),
    13398: (1968, (ROCK,)),
    99000: (7, (RARE,)),
}
"""Artist and tags by number; no split has the last one, whose tag is too rare."""

PARTS = {"train": (214, 3524), "validation": (12303, 7400), "test": (13398,)}


def path(number: int, suffix: str = ".mp3") -> str:
    return f"{number % 100:02d}/{number}{suffix}"


def rows(*numbers: int, only: str = "") -> str:
    """Return a table of some tracks, with tags that begin with ``only``."""
    lines = [HEADER]
    for number in numbers:
        artist, tags = TRACKS[number]
        kept = [tag for tag in tags if tag.startswith(only)]
        if kept:
            start = [f"track_{number:07d}", f"artist_{artist:06d}", "album_000001", path(number), "266.1"]
            lines.append("\t".join([*start, *kept]))
    return "\n".join([*lines, ""])


def write_tables(data: Path, splits: bool = True) -> None:
    """Write ``autotagging.tsv`` and ``autotagging_genre.tsv``, and the same two splits of each."""
    for name, only in (("autotagging", ""), ("autotagging_genre", "genre")):
        data.mkdir(parents=True, exist_ok=True)
        (data / f"{name}.tsv").write_text(rows(*TRACKS, only=only))
        for number in range(5 if splits else 0):
            folder = data / "splits" / f"split-{number}"
            folder.mkdir(parents=True, exist_ok=True)
            numbers = [*PARTS["train"], *PARTS["validation"]]
            parts = {**PARTS, "train": numbers[number % 2 :: 2], "validation": numbers[1 - number % 2 :: 2]}
            for part, tracks in parts.items():
                (folder / f"{name}-{part}.tsv").write_text(rows(*tracks, only=only))


def make_copy(root: Path, suffix: str = ".mp3", **tables: Any) -> Path:
    """Write a copy without the track 3524."""
    for number in TRACKS:
        if number != 3524:
            file = root / "raw_30s" / "audio" / path(number, suffix)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    write_tables(root / "data", **tables)
    return root


def labels(listing: Listing) -> dict[str, object]:
    return {track.id: track.label for track in listing.tracks}


def ids(*numbers: int) -> frozenset[str]:
    return frozenset(f"track_{number:07d}" for number in numbers)


def test_a_track_has_the_tags_and_the_artist_of_its_row(tmp_path: Path) -> None:
    listing = MtgJamendo().listing(make_copy(tmp_path))
    assert listing.task == Tags((ROCK, PIANO, DARK))
    assert labels(listing) == {
        "track_0000214": {ROCK, PIANO},
        "track_0007400": {ROCK, DARK},
        "track_0012303": {PIANO},
        "track_0013398": {ROCK},
    }
    assert [track.group for track in listing.tracks][:2] == ["artist_000014", "artist_000530"]
    assert listing.tracks[0].path == tmp_path / "raw_30s" / "audio" / "14" / "214.mp3"
    assert listing.absent == 1
    assert "skipped 1 track (not in this subset)" in listing.notes


def test_official_folds_are_the_splits_with_the_validation_part_inside_the_training_part(tmp_path: Path) -> None:
    schemes = MtgJamendo().listing(make_copy(tmp_path)).schemes
    even = Split(ids(214, 3524, 12303, 7400), ids(13398), (ids(3524, 7400),))
    odd = Split(ids(214, 3524, 12303, 7400), ids(13398), (ids(214, 12303),))
    assert schemes["split-0"] == [even]
    assert schemes["split-1"] == [odd]
    assert schemes["splits"] == [even, odd, even, odd, even]
    assert tuple(schemes) == MtgJamendo.card.folds


def test_without_the_splits_all_tags_are_listed_and_a_note_says_so(tmp_path: Path) -> None:
    listing = MtgJamendo().listing(make_copy(tmp_path, splits=False))
    assert listing.task == Tags((RARE, ROCK, PIANO, DARK))
    assert labels(listing)["track_0099000"] == {RARE}
    assert listing.schemes == {}
    assert any("split-0" in note for note in listing.notes)


def test_a_subset_has_tags_of_one_kind(tmp_path: Path) -> None:
    listing = MtgJamendo(subset="genre").listing(make_copy(tmp_path))
    assert listing.task == Tags((ROCK,))
    assert labels(listing) == {track: {ROCK} for track in ids(214, 7400, 13398)}
    [split] = listing.schemes["split-0"]
    assert (split.train, split.test, split.inner) == (ids(214, 7400), ids(13398), (ids(7400),))


@pytest.mark.parametrize("given", [".", "raw_30s", "raw_30s/audio", "raw_30s/audio/14"])
def test_the_copy_is_found_from_nearby_folders(tmp_path: Path, given: str) -> None:
    assert len(MtgJamendo().listing(make_copy(tmp_path) / given).tracks) == 4


def test_audio_in_low_quality_is_the_same_track(tmp_path: Path) -> None:
    listing = MtgJamendo().listing(make_copy(tmp_path, suffix=".low.mp3"))
    assert listing.tracks[0].path.name == "214.low.mp3"
    assert len(listing.tracks) == 4


def test_full_quality_comes_before_low_quality(tmp_path: Path) -> None:
    (make_copy(tmp_path) / "raw_30s" / "audio" / "14" / "214.low.mp3").touch()
    assert MtgJamendo().listing(tmp_path).tracks[0].path.name == "214.mp3"


def test_the_tables_can_be_elsewhere(tmp_path: Path) -> None:
    copy = make_copy(tmp_path / "music")
    (copy / "data").rename(tmp_path / "tables")
    with pytest.raises(DatasetError, match=r"no autotagging\.tsv .*data=DIR"):
        MtgJamendo().listing(copy)
    assert len(MtgJamendo(data=tmp_path / "tables").listing(copy).tracks) == 4
    with pytest.raises(DatasetError, match=r"data=.*nowhere: there is no autotagging\.tsv"):
        MtgJamendo(data=tmp_path / "nowhere").listing(copy)


def test_a_table_that_is_a_link_written_as_text_is_followed(tmp_path: Path) -> None:
    data = make_copy(tmp_path, splits=False) / "data"
    (data / "autotagging.tsv").rename(data / "raw_30s_cleantags_50artists.tsv")
    (data / "autotagging.tsv").write_text("raw_30s_cleantags_50artists.tsv")
    assert len(MtgJamendo().listing(tmp_path).tracks) == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("TRACK_ID\tPATH\n", "has no rows"),
        ("TRACK_ID\tPATH\tTAGS\nx\ty\tz\n", "has no column 'ARTIST_ID'"),
        (rows(214) + rows(214).splitlines()[1] + "\n", "line 3: track_0000214 is listed twice"),
        (f"{HEADER}\ntrack_1\tartist_1\talbum_1\t01/1.mp3\t3.0\t\n", "line 2: column 'TAGS' is empty"),
        (rows(3524), "has none of the 5 tracks"),
    ],
)
def test_a_table_that_is_not_the_published_one_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (make_copy(tmp_path, splits=False) / "data" / "autotagging.tsv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        MtgJamendo().listing(tmp_path)


def test_a_track_in_two_parts_of_a_split_is_an_error(tmp_path: Path) -> None:
    (make_copy(tmp_path) / "data" / "splits" / "split-1" / "autotagging-test.tsv").write_text(rows(214))
    with pytest.raises(DatasetError, match="split-1 has a track in two of its parts"):
        MtgJamendo().listing(tmp_path)


def test_another_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "rock").mkdir()
    with pytest.raises(DatasetError, match="no MTG-Jamendo clips"):
        MtgJamendo().listing(tmp_path)


@pytest.mark.slow
def test_official_folds_are_kept_in_the_store_and_evaluated(tmp_path: Path, mirembed: Command) -> None:
    copy = make_copy(tmp_path)
    for number, file in enumerate(sorted(copy.rglob("*.mp3"))):
        soundfile.write(file, tone(300.0 * (number + 1), 1.0, seed=number), RATE, format="MP3")
    store = tmp_path / "s"
    mirembed("extract", "--dataset", "mtg_jamendo", "--audio", copy, "--store", store, "--jobs", 1)
    assert Store(store).dataset(Spec("mtg_jamendo")).schemes() == MtgJamendo().listing(copy).schemes
    shutil.rmtree(copy / "data")
    evaluate = ("evaluate", "--store", store, "--approach", "stats", "--jobs", 1, "--json")
    report = json.loads(mirembed(*evaluate, "--folds", "split-0").stdout)
    assert (report["folds"], report["n_folds"], report["n_train"], report["n_test"]) == ("split-0", 1, 3, 1)
    assert json.loads(mirembed(*evaluate, "--folds", "splits").stdout)["n_folds"] == 5
    assert "split-0, " in mirembed(*evaluate, "--folds", "split-9", code=1).stderr
    mirembed("extract", "--dataset", "mtg_jamendo", "--store", store, code=1)
