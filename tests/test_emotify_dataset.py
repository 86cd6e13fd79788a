"""The dataset ``emotify``: its folders, the ratings of its listeners and the artists in its tags."""

from __future__ import annotations

import csv
from collections import defaultdict
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import pytest
import soundfile

from mirembed import DatasetError, Listing, Regression, Tags, Target
from mirembed_datasets.emotify import Emotify

EMOTIONS = (
    "amazement",
    "solemnity",
    "tenderness",
    "nostalgia",
    "calmness",
    "power",
    "joyful_activation",
    "tension",
    "sadness",
)
HEADER = f"track id, genre, {', '.join(EMOTIONS)}, mood, liked, disliked, age, gender, mother tongue"
GENRES = ("classical", "rock", "electronic", "pop")


def rating(track: int, chosen: str, genre: str | None = None) -> str:
    """Return a row: ``chosen`` has a 0 or 1 for each emotion."""
    return f"{track},{genre or GENRES[(track - 1) // 100]},{','.join(chosen)},3,1,0,21,1,English"


RATINGS = [
    rating(1, "010000110"),
    rating(1, "000100000"),
    rating(1, "010100000"),
    rating(2, "000000001"),
    rating(103, "100000000"),
    rating(400, "111111111"),
]


@cache
def silence() -> bytes:
    """Return an MP3 file of a tenth of a second."""
    file = BytesIO()
    soundfile.write(file, np.zeros(4410, dtype=np.float32), 44100, format="MP3")
    return file.getvalue()


def make_clip(file: Path, artist: str | None = "Someone") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(silence())
    if artist is not None:
        tagged = mutagen.File(file, easy=True)
        tagged.add_tags()
        tagged["artist"] = artist
        tagged.save()
    return file


def make_copy(root: Path, *names: str, ratings: list[str] | str = RATINGS) -> Path:
    """Write a copy in the layout of the archive; ``names`` such as ``classical/1.mp3``."""
    for name in names or ("classical/1.mp3", "classical/2.mp3", "rock/3.mp3", "pop/100.mp3"):
        make_clip(root / "emotifymusic" / name)
    text = ratings if isinstance(ratings, str) else "\n".join([HEADER, *ratings, ""])
    (root / "data.csv").write_bytes(text.encode())
    return root


def ids(listing: Listing) -> list[str]:
    return [track.id for track in listing.tracks]


def test_a_track_is_found_by_its_id_and_labeled_with_its_mean_ratings(tmp_path: Path) -> None:
    listing = Emotify().listing(make_copy(tmp_path))
    assert listing.task == Regression(tuple(Target(emotion, 0.0, 1.0) for emotion in EMOTIONS))
    music = tmp_path / "emotifymusic"
    assert {track.id: track.path for track in listing.tracks} == {
        "1": music / "classical" / "1.mp3",
        "2": music / "classical" / "2.mp3",
        "103": music / "rock" / "3.mp3",
        "400": music / "pop" / "100.mp3",
    }
    labels = {track.id: track.label for track in listing.tracks}
    assert labels["1"] == pytest.approx((0, 2 / 3, 0, 2 / 3, 0, 0, 1 / 3, 1 / 3, 0))
    assert labels["103"] == (1, 0, 0, 0, 0, 0, 0, 0, 0)
    assert labels["400"] == (1,) * 9
    assert listing.absent == 0


def test_an_emotion_that_enough_listeners_felt_is_a_tag(tmp_path: Path) -> None:
    """Track 1 has three listeners: two felt solemnity, two nostalgia, one joyful activation and one tension."""
    copy = make_copy(tmp_path)
    listing = Emotify(task="tags", threshold=0.5).listing(copy)
    assert listing.task == Tags(EMOTIONS)
    labels = {track.id: track.label for track in listing.tracks}
    assert labels["1"] == {"solemnity", "nostalgia"}
    assert labels["400"] == set(EMOTIONS)
    labels = {track.id: track.label for track in Emotify(task="tags").listing(copy).tracks}
    assert labels["1"] == {"solemnity", "nostalgia", "joyful_activation", "tension"}
    exactly = Emotify(task="tags", threshold=1.0).listing(copy)
    assert [track.label for track in exactly.tracks][:2] == [frozenset(), {"sadness"}]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"threshold": 0.5}, "threshold=0.5 .*task=tags"),
        ({"task": "tags", "threshold": 0.0}, "threshold=0 "),
        ({"task": "tags", "threshold": 1.5}, "threshold=1.5 "),
    ],
)
def test_a_threshold_is_a_fraction_and_for_tags(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        Emotify(**parameters)


def test_tracks_are_sorted_by_number(tmp_path: Path) -> None:
    ratings = [rating(10, "000000000"), rating(9, "000000000"), rating(101, "000000000")]
    copy = make_copy(tmp_path, "classical/10.mp3", "classical/9.mp3", "rock/1.mp3", ratings=ratings)
    assert ids(Emotify().listing(copy)) == ["9", "10", "101"]


def test_the_group_is_the_artist_in_the_tags(tmp_path: Path) -> None:
    copy = make_copy(tmp_path)
    make_clip(copy / "emotifymusic" / "classical" / "2.mp3", artist=" Voices  of Music ")
    make_clip(copy / "emotifymusic" / "rock" / "3.mp3", artist=None)
    (copy / "emotifymusic" / "pop" / "100.mp3").write_bytes(b"half a download")
    listing = Emotify().listing(copy)
    assert [track.group for track in listing.tracks] == ["Someone", "Voices of Music", None, None]
    assert any(note.startswith("2 clips without a group") for note in listing.notes)


@pytest.mark.parametrize("place", ["emotifymusic", ".", ".."])
def test_the_ratings_are_found_in_the_music_folder_and_above(tmp_path: Path, place: str) -> None:
    copy = make_copy(tmp_path / "emotify")
    (copy / "data.csv").rename(copy / place / "data.csv")
    for given in (copy, copy / "emotifymusic"):
        assert ids(Emotify().listing(given)) == ["1", "2", "103", "400"]


@pytest.mark.parametrize("given", [".", "emotify", "emotify/emotifymusic", "emotify/emotifymusic/rock"])
def test_the_genre_folders_are_found_from_nearby_folders(tmp_path: Path, given: str) -> None:
    music = make_copy(tmp_path / "emotify") / "emotifymusic"
    listing = Emotify().listing(tmp_path / given)
    assert listing.tracks == Emotify().listing(music).tracks
    assert (f"clips found in {str(music)!r}" in listing.notes) == (tmp_path / given != music)


def test_ratings_without_audio_are_absent_and_a_partial_copy_is_noted(tmp_path: Path) -> None:
    listing = Emotify().listing(make_copy(tmp_path, "classical/2.mp3"))
    assert (ids(listing), listing.absent) == (["2"], 3)
    assert "1 of 400 clips" in listing.notes


def test_audio_without_ratings_is_counted(tmp_path: Path) -> None:
    listing = Emotify().listing(make_copy(tmp_path, "classical/2.mp3", "classical/3.mp3", "pop/7.mp3"))
    assert ids(listing) == ["2"]
    assert any("2 clips" in note and str(tmp_path / "data.csv") in note for note in listing.notes)


def test_files_that_macos_adds_to_archives_are_ignored(tmp_path: Path) -> None:
    copy = make_copy(tmp_path)
    for folder in ("__MACOSX/emotifymusic", "emotifymusic"):
        (copy / folder / "classical").mkdir(parents=True, exist_ok=True)
        (copy / folder / "classical" / "._1.mp3").touch()
    assert Emotify().listing(copy).tracks == Emotify().listing(copy / "emotifymusic").tracks


def test_a_table_that_differs_from_the_published_one_is_noted(tmp_path: Path) -> None:
    listing = Emotify().listing(make_copy(tmp_path))
    expected = f"{tmp_path / 'data.csv'} has 6 rows for 4 tracks, expected 8407 for 400"
    assert any(note.startswith(expected) for note in listing.notes)


@pytest.mark.parametrize("name", ["classical/002.mp3", "Classical/2.MP3", "classical/2.wav"])
def test_ids_do_not_depend_on_format_and_spelling(tmp_path: Path, name: str) -> None:
    make_copy(tmp_path, "pop/100.mp3")
    (tmp_path / "emotifymusic" / name).parent.mkdir()
    (tmp_path / "emotifymusic" / name).touch()
    assert ids(Emotify().listing(tmp_path)) == ["2", "400"]


@pytest.mark.parametrize("name", ["classical/0.mp3", "classical/101.mp3", "classical/one.mp3", "classical/1²3.mp3"])
def test_unknown_audio_is_counted(tmp_path: Path, name: str) -> None:
    listing = Emotify().listing(make_copy(tmp_path, "classical/2.mp3", name))
    assert ids(listing) == ["2"]
    assert "1 audio file (not named like a clip" in listing.notes[-1]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace(", ", ",").replace(",", ";"),
        lambda text: text.replace(", ", ",").replace(",", "\t"),
        lambda text: text.replace(", ", ","),
    ],
)
def test_byte_order_mark_line_endings_delimiter_and_spaces_do_not_matter(tmp_path: Path, change) -> None:
    plain = Emotify().listing(make_copy(tmp_path / "plain"))
    text = change((tmp_path / "plain" / "data.csv").read_text())
    changed = Emotify().listing(make_copy(tmp_path / "changed", ratings=text))
    assert [(track.id, track.label) for track in changed.tracks] == [(track.id, track.label) for track in plain.tracks]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (rating(1, "200000000"), r"line 2: 2 in column 'amazement'"),
        (rating(1, ["0.5", *"00000000"]), r"line 2: 0.5 in column 'amazement' is not an integer"),
        (rating(1, ["", *"00000000"]), r"line 2: column 'amazement' is empty"),
        (rating(401, "000000000", "pop"), r"line 2: 401 in column 'track id' is not between 1 and 400"),
        (rating(1, "000000000", "pop"), r"line 2: track 1 is 'pop', but 'classical'"),
        ("1,classical,0,0", r"line 2: column 'tenderness' is empty"),
    ],
)
def test_an_invalid_row_is_an_error_that_names_the_line(tmp_path: Path, row: str, problem: str) -> None:
    with pytest.raises(DatasetError, match=problem):
        Emotify().listing(make_copy(tmp_path, ratings=[row]))


def test_a_table_without_a_column_is_an_error(tmp_path: Path) -> None:
    text = (make_copy(tmp_path / "whole") / "data.csv").read_text().replace("tension", "tensions")
    with pytest.raises(DatasetError, match="has no column 'tension'"):
        Emotify().listing(make_copy(tmp_path / "changed", ratings=text))


def test_music_without_ratings_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"data.csv has no ratings for the 1 clip in .*emotifymusic"):
        Emotify().listing(make_copy(tmp_path, "pop/1.mp3"))


def test_music_without_a_table_is_an_error_that_says_where_to_get_it(tmp_path: Path) -> None:
    copy = make_copy(tmp_path / "a" / "b" / "emotify")
    (copy / "data.csv").unlink()
    with pytest.raises(DatasetError, match=r"no data.csv in .*emotifymusic' .*http://.*/emotifydata/data.csv"):
        Emotify().listing(copy)


def test_a_table_without_music_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("\n".join([HEADER, *RATINGS]))
    with pytest.raises(DatasetError, match=r"no Emotify clips in .*1 file \('data.csv'\).*'emotifymusic'"):
        Emotify().listing(tmp_path)


def test_the_card_describes_a_copy() -> None:
    card = Emotify().card
    assert (card.n_tracks, card.rate) == (400, 44100)
    assert card.citation.startswith("@article{")
    assert card.seconds is not None
    assert card.seconds[0] < 25.8 < 61 < card.seconds[1]
    assert [(archive.url.rpartition("/")[2], archive.checksum) for archive in card.archives] == [
        ("data.csv", "md5:583c2fc66ef1cba37c50a0ea7ad585ed")
    ]


def test_real_clips_are_listed_with_the_published_labels_and_their_artists(real_data: Path) -> None:
    copy = real_data / "emotify_mini"
    listing = Emotify().listing(copy)
    assert (len(listing.tracks), listing.absent) == (20, 380)
    assert list(listing.notes) == [f"clips found in {str(copy / 'emotifymusic')!r}", "20 of 400 clips"]
    assert listing.tracks[0].label == pytest.approx((7, 16, 10, 14, 30, 1, 4, 3, 15) / np.float64(48), abs=1e-12)
    groups = {track.id: track.group for track in listing.tracks}
    assert groups["1"] == "Voices of Music"
    assert groups["4"] == groups["5"] == "Ivan Ilic"
    assert groups["305"] == groups["102"] == "Shane Jackman", "an artist in two genres is one group"


def test_all_400_labels_are_the_means_of_the_real_table(tmp_path: Path, real_data: Path) -> None:
    file = real_data / "emotify_mini" / "data.csv"
    ratings = defaultdict(list)
    with file.open(newline="") as lines:
        for row in list(csv.reader(lines))[1:]:
            ratings[row[0]].append([float(value) for value in row[2:11]])
    copy = make_copy(tmp_path, "pop/1.mp3", ratings=file.read_text())
    for genre in GENRES:
        for number in range(1, 101):
            path = copy / "emotifymusic" / genre / f"{number}.mp3"
            path.parent.mkdir(exist_ok=True)
            path.touch()
    tracks = Emotify().listing(copy).tracks
    assert [track.id for track in tracks] == [str(number) for number in range(1, 401)]
    expected = np.array([np.mean(ratings[track.id], axis=0) for track in tracks])
    np.testing.assert_allclose([track.label for track in tracks], expected, atol=1e-12)
