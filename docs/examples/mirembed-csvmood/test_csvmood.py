from pathlib import Path

import pytest

from mirembed import DatasetError, Target
from mirembed.testing import dataset_checks
from mirembed_csvmood import CsvMood

HEADER = "file,artist,valence,arousal"
ROWS = ("one.wav,Ann,6.5,3", "album/two.wav,Ben,2,7.25", "album/three.wav,,9,1", "missing.wav,Ann,5,5")


def write_copy(folder: Path, *rows: str, header: str = HEADER) -> Path:
    """Write empty files, because a listing opens no audio."""
    (folder / "annotations.csv").write_text("\n".join([header, *(rows or ROWS)]), encoding="utf-8")
    (folder / "album").mkdir()
    for name in ("one.wav", "album/two.wav", "album/three.wav"):
        (folder / name).touch()
    return folder


@dataset_checks(CsvMood, audio=write_copy)
def test_it_passes_every_check_of_a_dataset(check):
    check()


def test_every_row_whose_file_exists_is_a_track(tmp_path):
    listing = CsvMood().listing(write_copy(tmp_path))
    assert listing.task.targets == (Target("valence", 1, 9), Target("arousal", 1, 9))
    assert {track.id: track.label for track in listing.tracks} == {
        "one.wav": (6.5, 3.0),
        "album/two.wav": (2.0, 7.25),
        "album/three.wav": (9.0, 1.0),
    }
    assert [track.group for track in listing.tracks] == ["Ann", "Ben", None]
    assert listing.absent == 1


@pytest.mark.parametrize(
    ("header", "row", "fact"),
    [
        ("path,artist,valence", "one.wav,Ann,1", "path, artist, valence"),
        ("file,artist", "one.wav,Ann", "columns file, artist;"),
        (HEADER, "one.wav,Ann,high,1", "line 2: valence, arousal"),
        (HEADER, "one.wav,Ann,1", "line 2: valence, arousal"),
        (HEADER, "one.wav,Ann,1,nan", "line 2: .* from 1 to 9"),
        (HEADER, "one.wav,Ann,1,10", "line 2: .* from 1 to 9"),
        (HEADER, "zero.wav,Ann,1,1", "none of the files"),
    ],
)
def test_a_table_that_cannot_be_used_is_an_error(tmp_path, header, row, fact):
    with pytest.raises(DatasetError, match=fact):
        CsvMood().listing(write_copy(tmp_path, row, header=header))


def test_the_range_is_a_parameter():
    with pytest.raises(ValueError, match=r"low is 1\.0 and high is 0\.0"):
        CsvMood(low=1.0, high=0.0)
