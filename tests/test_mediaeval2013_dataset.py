"""The dataset ``mediaeval2013``: where its clips and annotations are, and the mix-up with DEAM."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from mirembed import DatasetError, Listing, Regression, Target
from mirembed_datasets.mediaeval2013 import Mediaeval2013

STATIC = """\
song_id,mean_arousal,std_arousal,mean_valence,std_valence
2,3.1,0.99443,3,0.66667
3,3.5,1.8409,3.3,1.7029
10,5.7,1.4944,5.5,1.7159
"""
SONGS = """\
song_id,file_name,Artist,Song title,start of the segment (min.sec),end of the segment (min.sec),Genre,Mediaeval 2013 set
2,2.mp3,Someone\t,A song\t, 0.48, 1.33,Blues\t,development
3,3.mp3,Another,B,0.36,1.21,Blues,evaluation
10,10.mp3,Someone,C,1.29,2.14,Blues,development
"""


def make_copy(
    root: Path,
    *clips: str,
    audio: str = "clips_45seconds",
    annotations: str = ".",
    static: str = STATIC,
    songs: str | None = SONGS,
) -> Path:
    """Write a copy with empty clips: listing does not read the audio."""
    (root / audio).mkdir(parents=True, exist_ok=True)
    for clip in clips or ("2.mp3", "3.mp3", "10.mp3"):
        (root / audio / clip).touch()
    (root / annotations).mkdir(exist_ok=True)
    (root / annotations / "static_annotations.csv").write_bytes(static.encode())
    if songs is not None:
        (root / annotations / "songs_info.csv").write_bytes(songs.encode())
    return root


def ids(listing: Listing) -> list[str]:
    return [track.id for track in listing.tracks]


def test_an_annotated_clip_has_its_valence_and_then_its_arousal(tmp_path: Path) -> None:
    listing = Mediaeval2013().listing(make_copy(tmp_path))
    assert listing.task == Regression((Target("valence", 1.0, 9.0), Target("arousal", 1.0, 9.0)))
    assert {track.id: track.label for track in listing.tracks} == {"2": (3.0, 3.1), "3": (3.3, 3.5), "10": (5.5, 5.7)}
    assert ids(listing) == ["2", "3", "10"], "in the order of the numbers"
    assert listing.tracks[0].path == tmp_path / "clips_45seconds" / "2.mp3"


def test_the_group_is_the_artist_of_the_song(tmp_path: Path) -> None:
    listing = Mediaeval2013().listing(make_copy(tmp_path))
    assert [track.group for track in listing.tracks] == ["Someone", "Another", "Someone"]


@pytest.mark.parametrize("audio", ["clips_45seconds", "clips_45sec/clips_45seconds", "clips_45sec"])
@pytest.mark.parametrize("annotations", [".", "annotations"])
def test_clips_and_annotations_are_found_in_every_layout(tmp_path: Path, audio: str, annotations: str) -> None:
    copy = make_copy(tmp_path / "emoMusic", audio=audio, annotations=annotations)
    for given in (tmp_path, copy, copy / audio):
        listing = Mediaeval2013().listing(given)
        assert ids(listing) == ["2", "3", "10"]
        assert (f"clips found in {str(copy / audio)!r}" in listing.notes) == (given != copy / audio)


def test_the_continuous_annotations_are_not_needed_and_not_read(tmp_path: Path) -> None:
    copy = make_copy(tmp_path)
    (copy / "valence_cont_average.csv").write_text("not read")
    assert ids(Mediaeval2013().listing(copy)) == ["2", "3", "10"]


def test_annotations_without_audio_are_absent_and_a_partial_copy_is_noted(tmp_path: Path) -> None:
    listing = Mediaeval2013().listing(make_copy(tmp_path, "3.mp3"))
    assert (ids(listing), listing.absent) == (["3"], 2)
    assert "1 of 744 clips" in listing.notes


def test_audio_without_annotations_is_counted(tmp_path: Path) -> None:
    listing = Mediaeval2013().listing(make_copy(tmp_path, "1.mp3", "2.mp3", "1000.mp3"))
    assert ids(listing) == ["2"]
    assert any("2 clips" in note and str(tmp_path / "static_annotations.csv") in note for note in listing.notes)


@pytest.mark.parametrize("name", ["0.mp3", "1001.mp3", "intro.mp3"])
def test_unknown_audio_is_counted(tmp_path: Path, name: str) -> None:
    listing = Mediaeval2013().listing(make_copy(tmp_path, "2.mp3", name))
    assert ids(listing) == ["2"]
    assert "1 audio file (not named like a clip" in listing.notes[-1]


@pytest.mark.parametrize("name", ["0002.mp3", "2.wav", "2.MP3"])
def test_ids_do_not_depend_on_format_and_spelling(tmp_path: Path, name: str) -> None:
    assert ids(Mediaeval2013().listing(make_copy(tmp_path, name))) == ["2"]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", " , "),
    ],
)
def test_byte_order_mark_line_endings_delimiter_and_spaces_do_not_matter(tmp_path: Path, change) -> None:
    plain = Mediaeval2013().listing(make_copy(tmp_path))
    changed = Mediaeval2013().listing(make_copy(tmp_path, static=change(STATIC), songs=change(SONGS)))
    assert changed.tracks == plain.tracks


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("4,9.1,1,5,1", r"line 5: 9.1 in column 'mean_arousal' is not between 1 and 9"),
        ("4,5,1,0.5,1", r"line 5: 0.5 in column 'mean_valence' is not between 1 and 9"),
        ("4,much,1,5,1", r"line 5: 'much' in column 'mean_arousal'"),
        ("2001,5,1,5,1", r"line 5: 2001 in column 'song_id' is not between 1 and 1000"),
        ("3,3.5,1.8409,4,1.7029", r"line 5: '3' is .* line 3"),
    ],
)
def test_an_invalid_row_is_an_error_that_names_the_line(tmp_path: Path, row: str, problem: str) -> None:
    with pytest.raises(DatasetError, match=problem):
        Mediaeval2013().listing(make_copy(tmp_path, static=STATIC + row))


def test_a_repeated_row_is_counted(tmp_path: Path) -> None:
    listing = Mediaeval2013().listing(make_copy(tmp_path, static=STATIC + "3,3.5,1.8409,3.3,1.7029"))
    assert len(listing.tracks) == 3
    assert any(note.startswith("skipped 1 row of ") for note in listing.notes)


def test_incomplete_annotations_are_noted(tmp_path: Path) -> None:
    listing = Mediaeval2013().listing(make_copy(tmp_path))
    assert any("static_annotations.csv has 3 songs" in note and "744" in note for note in listing.notes)


@pytest.mark.parametrize(
    ("songs", "reason"),
    [(None, "cannot read .*songs_info.csv"), ("song_id,Genre\n2,Blues\n", "has no column 'Artist'")],
)
def test_without_artists_there_are_no_groups_which_is_noted(tmp_path: Path, songs: str | None, reason: str) -> None:
    listing = Mediaeval2013().listing(make_copy(tmp_path, songs=songs))
    assert [track.group for track in listing.tracks] == [None] * 3
    note = next(note for note in listing.notes if note.startswith("clips without a group"))
    assert re.search(reason, note)


def test_a_song_without_an_artist_is_counted(tmp_path: Path) -> None:
    listing = Mediaeval2013().listing(make_copy(tmp_path, songs=SONGS.replace("Another", " ")))
    assert [track.group for track in listing.tracks] == ["Someone", None, "Someone"]
    assert any(note.startswith("1 clip without a group") for note in listing.notes)


def test_annotations_of_other_songs_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"static_annotations.csv .*1 clip in .*clips_45seconds"):
        Mediaeval2013().listing(make_copy(tmp_path, "7.mp3"))


def test_clips_without_annotations_are_an_error_that_says_where_to_get_them(tmp_path: Path) -> None:
    copy = make_copy(tmp_path / "a" / "b" / "c")
    (copy / "static_annotations.csv").rename(copy / "static_annotations_averaged_songs_1_2000.csv")
    with pytest.raises(DatasetError, match=r"no static_annotations.csv in .*annotations.tar.gz from .*DEAM"):
        Mediaeval2013().listing(copy)


def test_annotations_without_clips_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "static_annotations.csv").write_text(STATIC)
    with pytest.raises(DatasetError, match=r"no MediaEval 2013 clips in .*'clips_45seconds'"):
        Mediaeval2013().listing(tmp_path)


def whole_table(valence: float, arousal: float) -> str:
    """Return annotations of 744 songs with these means."""
    rows = [f"{song},{arousal + song % 2 - 0.5},1,{valence + song % 2 - 0.5},1" for song in range(2, 746)]
    return "\n".join(["song_id,mean_arousal,std_arousal,mean_valence,std_valence", *rows])


class TestDeam:
    """Its annotations of the same songs have valence and arousal swapped."""

    def test_its_columns_are_refused(self, tmp_path: Path) -> None:
        static = "song_id, valence_mean, valence_std, arousal_mean, arousal_std\n2,3.1,0.94,3,0.63\n"
        with pytest.raises(DatasetError, match=r"DEAM.*swapped.* static_annotations.csv"):
            Mediaeval2013().listing(make_copy(tmp_path, static=static))

    def test_its_values_under_the_right_columns_are_refused(self, tmp_path: Path) -> None:
        right = make_copy(tmp_path / "right", static=whole_table(valence=5.0061, arousal=4.7865))
        assert ids(Mediaeval2013().listing(right)) == ["2", "3", "10"]
        swapped = make_copy(tmp_path / "swapped", static=whole_table(valence=4.7865, arousal=5.0061))
        with pytest.raises(DatasetError, match=r"valence and arousal are swapped in .*static_annotations.csv"):
            Mediaeval2013().listing(swapped)


def test_the_official_split_has_619_and_125_songs() -> None:
    (split,) = Mediaeval2013().schemes()["mediaeval"]
    assert (len(split.train), len(split.test)) == (619, 125)
    assert not split.train & split.test
    assert "2" in split.train
    assert "3" in split.test


def test_the_card_describes_a_copy() -> None:
    card = Mediaeval2013().card
    assert (card.n_tracks, card.rate) == (744, 44100)
    assert card.citation.startswith("@inproceedings{")
    assert [archive.checksum[:15] for archive in card.archives] == ["sha256:3994a5d5", "sha256:e0cb0b06"]


@pytest.fixture
def real_copy(tmp_path: Path, real_data: Path) -> Path:
    """The real annotations with empty clips for all 1000 songs."""
    folder = real_data / "mediaeval2013_annotations"
    static, songs = ((folder / name).read_bytes().decode() for name in ("static_annotations.csv", "songs_info.csv"))
    return make_copy(tmp_path, *(f"{number}.mp3" for number in range(1, 1001)), static=static, songs=songs)


def test_the_real_annotations_label_744_clips(real_copy: Path) -> None:
    listing = Mediaeval2013().listing(real_copy)
    assert (len(listing.tracks), listing.absent) == (744, 0)
    assert len(listing.notes) == 2
    assert "256 clips" in listing.notes[1]
    valence, arousal = zip(*(track.label for track in listing.tracks), strict=True)
    assert (min(valence), max(valence), min(arousal), max(arousal)) == (1.6, 8.1, 1.6, 8.4)
    assert round(sum(arousal) / 744, 2) == 4.79
    assert len({track.group for track in listing.tracks}) == 411


def test_the_official_split_is_that_of_the_real_song_list(real_copy: Path) -> None:
    (split,) = Mediaeval2013().schemes()["mediaeval"]
    with (real_copy / "songs_info.csv").open(newline="") as lines:
        parts = {row["song_id"]: row["Mediaeval 2013 set"] for row in csv.DictReader(lines)}
    assert split.train == {song for song, part in parts.items() if part == "development"}
    assert split.test == {song for song, part in parts.items() if part == "evaluation"}


def test_the_real_values_swapped_are_refused(real_copy: Path) -> None:
    file = real_copy / "static_annotations.csv"
    swapped = file.read_text().replace("arousal", "?").replace("valence", "arousal").replace("?", "valence")
    file.write_text(swapped)
    with pytest.raises(DatasetError, match="valence and arousal are swapped"):
        Mediaeval2013().listing(real_copy)
