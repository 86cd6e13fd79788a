"""The dataset ``gtzan``: finding the clips in the copies that are in circulation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mirembed import Classification, DatasetError
from mirembed_datasets.gtzan import Gtzan

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")


def make_copy(folder: Path, *, clips: int = 2, genres: tuple[str, ...] = GENRES, suffix: str = "wav") -> Path:
    """Write empty files in the layout of the archive: a listing opens no audio."""
    for genre in genres:
        (folder / genre).mkdir(parents=True, exist_ok=True)
        for number in range(clips):
            (folder / genre / f"{genre}.{number:05}.{suffix}").touch()
    return folder


def test_a_whole_copy_is_listed_without_notes(tmp_path: Path) -> None:
    listing = Gtzan().listing(make_copy(tmp_path, clips=100))
    assert listing.task == Classification(GENRES)
    assert [track.id for track in listing.tracks] == [
        f"{genre}.{number:05}" for genre in GENRES for number in range(100)
    ]
    assert all(track.id.startswith(f"{track.label}.") for track in listing.tracks)
    assert all(track.path.is_file() and track.path.stem == track.id for track in listing.tracks)
    assert {track.group for track in listing.tracks} == {None}
    assert (listing.absent, list(listing.notes)) == (0, [])


def test_a_partial_copy_works_and_is_said(tmp_path: Path) -> None:
    listing = Gtzan().listing(make_copy(tmp_path, clips=10))
    assert len(listing.tracks) == 100
    assert listing.absent == 900
    assert list(listing.notes) == ["100 of 1000 clips"]


def test_classes_without_a_clip_are_left_out_and_said(tmp_path: Path) -> None:
    make_copy(tmp_path, genres=("rock", "jazz"))
    (tmp_path / "pop").mkdir()
    listing = Gtzan().listing(tmp_path)
    assert listing.task == Classification(("jazz", "rock"))
    assert list(listing.notes) == [
        "4 of 1000 clips",
        "classes left out, without a clip in this copy: blues, classical, country, disco, hiphop, metal, pop, reggae",
    ]


@pytest.mark.parametrize("given", ["Data/genres_original", "Data", ".", "Data/genres_original/jazz"])
def test_the_genre_folders_are_found_from_folders_nearby(tmp_path: Path, given: str) -> None:
    copy = make_copy(tmp_path / "Data" / "genres_original")
    make_copy(tmp_path / "Data" / "images_original", suffix="png")
    (tmp_path / "Data" / "features_30_sec.csv").touch()
    (copy / "bl.mf").touch()
    listing = Gtzan().listing(tmp_path / given)
    assert listing.tracks == Gtzan().listing(copy).tracks
    found = [note for note in listing.notes if "genre folders found in" in note]
    assert found == ([] if tmp_path / given == copy else [f"genre folders found in {str(copy)!r}"])


def test_the_current_folder_may_be_a_genre_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_copy(tmp_path) / "jazz")
    assert len(Gtzan().listing(Path()).tracks) == 20


def test_a_copy_three_levels_down_is_too_far(tmp_path: Path) -> None:
    make_copy(tmp_path / "a" / "b" / "genres")
    with pytest.raises(DatasetError, match="no GTZAN clips"):
        Gtzan().listing(tmp_path)


@pytest.mark.parametrize("name", ["blues.00012.{}", "blues_00012.{}"])
@pytest.mark.parametrize("suffix", ["wav", "au", "mp3", "flac", "WAV"])
def test_an_id_does_not_depend_on_format_and_spelling(tmp_path: Path, name: str, suffix: str) -> None:
    (tmp_path / "blues").mkdir()
    file = tmp_path / "blues" / name.format(suffix)
    file.touch()
    (track,) = Gtzan().listing(tmp_path).tracks
    assert (track.id, track.label, track.path) == ("blues.00012", "blues", file)


def test_of_a_clip_in_several_formats_the_first_is_taken_and_the_others_are_counted(tmp_path: Path) -> None:
    for suffix in ("mp3", "flac", "au", "wav"):
        make_copy(tmp_path, genres=("blues",), clips=1, suffix=suffix)
        (track,) = Gtzan().listing(tmp_path).tracks
        assert track.path.suffix == f".{suffix}"
    (tmp_path / "blues" / "blues_00000.wav").touch()
    listing = Gtzan().listing(tmp_path)
    assert [track.path.name for track in listing.tracks] == ["blues.00000.wav"]
    assert listing.notes[-1].startswith("4 files left out, a clip in a further format or spelling")


@pytest.mark.parametrize(
    "name",
    [
        "blues.mf",
        "blues.00001.png",
        "._blues.00001.wav",
        "rock.00001.wav",
        "blues.00100.wav",
        "blues.0001.wav",
        "blues.00001.wav.part",
    ],
)
def test_other_files_are_ignored(tmp_path: Path, name: str) -> None:
    make_copy(tmp_path, genres=("blues",), clips=1)
    (tmp_path / "blues" / name).touch()
    (tmp_path / "blues" / "blues.00002.wav").mkdir()
    assert [track.id for track in Gtzan().listing(tmp_path).tracks] == ["blues.00000"]


def test_two_copies_are_an_error_that_names_both(tmp_path: Path) -> None:
    make_copy(tmp_path / "genres")
    make_copy(tmp_path / "genres_original")
    with pytest.raises(DatasetError, match=r"more than one copy .*/genres', '.*/genres_original'"):
        Gtzan().listing(tmp_path)


def test_another_folder_is_an_error_that_says_what_it_holds_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "Waltz").mkdir()
    (tmp_path / "a.wav").touch()
    with pytest.raises(DatasetError) as caught:
        Gtzan().listing(tmp_path)
    message = str(caught.value)
    assert repr(str(tmp_path)) in message
    assert "1 folder ('Waltz') and 1 file ('a.wav')" in message
    assert "'genres' or 'genres_original' is expected" in message
    assert "blues/blues.00000.wav" in message


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"there is no folder '.*nowhere'"):
        Gtzan().listing(tmp_path / "nowhere")


@pytest.mark.skipif("MIREMBED_REAL_DATA" not in os.environ, reason="needs real data: set MIREMBED_REAL_DATA")
@pytest.mark.parametrize("given", ["gtzan_mini", "gtzan_mini/genres", "gtzan_mini/genres/pop"])
def test_a_real_copy_is_listed(given: str) -> None:
    listing = Gtzan().listing(Path(os.environ["MIREMBED_REAL_DATA"]) / given)
    assert listing.task == Classification(GENRES)
    assert len(listing.tracks) == 100
    assert "100 of 1000 clips" in listing.notes
