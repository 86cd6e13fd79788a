"""The dataset ``ballroom``: the copies in circulation, and its replicas."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirembed import Classification, DatasetError
from mirembed_datasets.ballroom import Ballroom

FOLDERS = {
    "ChaChaCha": 111,
    "Jive": 60,
    "Quickstep": 82,
    "Rumba-American": 7,
    "Rumba-International": 51,
    "Rumba-Misc": 40,
    "Samba": 86,
    "Tango": 86,
    "VienneseWaltz": 65,
    "Waltz": 110,
}
CLASSES = ("ChaChaCha", "Jive", "Quickstep", "Rumba", "Samba", "Tango", "VienneseWaltz", "Waltz")


def make_files(root: Path, *names: str) -> Path:
    """Write empty files: listing does not read the audio."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def make_copy(root: Path, most: int = 1000) -> Path:
    """Write a copy in the layout of the archive, with at most ``most`` clips per folder."""
    for position, (folder, n_clips) in enumerate(FOLDERS.items()):
        make_files(root, *(f"{folder}/Media-{position:02}{number:04}.wav" for number in range(min(n_clips, most))))
    return make_files(root, "allBallroomFiles")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return make_copy(tmp_path / "data1" / "BallroomData", most=2)


def test_a_complete_copy_has_698_clips_in_eight_classes(tmp_path: Path) -> None:
    listing = Ballroom().listing(make_copy(tmp_path))
    assert listing.task == Classification(CLASSES)
    assert len({track.id for track in listing.tracks}) == len(listing.tracks) == 698
    assert (listing.absent, list(listing.notes)) == (0, [])


def test_the_three_rumba_folders_are_one_class(copy: Path) -> None:
    rumbas = [track for track in Ballroom().listing(copy).tracks if track.label == "Rumba"]
    assert {track.path.parent.name for track in rumbas} == {"Rumba-American", "Rumba-International", "Rumba-Misc"}


@pytest.mark.parametrize("folder", ["Rumba-international", "rumba-misc", "RUMBA", "Rumba"])
def test_folder_names_ignore_case(tmp_path: Path, folder: str) -> None:
    (track,) = Ballroom().listing(make_files(tmp_path, f"{folder}/Albums-Latin_Jam-08.WAV")).tracks
    assert (track.id, track.label) == ("Albums-Latin_Jam-08", "Rumba")


def test_the_group_is_the_album_if_there_is_one(tmp_path: Path) -> None:
    make_files(tmp_path, "Samba/Albums-Latin_Jam2-02.wav", "Tango/Albums-Latin_Jam2-07.wav", "Waltz/Media-105901.wav")
    assert {track.id: track.group for track in Ballroom().listing(tmp_path).tracks} == {
        "Albums-Latin_Jam2-02": "Albums-Latin_Jam2",
        "Albums-Latin_Jam2-07": "Albums-Latin_Jam2",
        "Media-105901": None,
    }


@pytest.mark.parametrize("given", [".", "data1", "data1/BallroomData", "data1/BallroomData/Rumba-Misc"])
def test_the_class_folders_are_found_from_nearby_folders(tmp_path: Path, copy: Path, given: str) -> None:
    listing = Ballroom().listing(tmp_path / given)
    assert listing.tracks == Ballroom().listing(copy).tracks
    assert (f"clips found in {str(copy)!r}" in listing.notes) == (tmp_path / given != copy)


def test_a_partial_copy_works_and_is_noted(tmp_path: Path) -> None:
    make_files(tmp_path, "Waltz/Media-105901.wav", "Waltz/Media-105902.wav", "Jive/Media-103601.wav")
    listing = Ballroom().listing(tmp_path)
    assert listing.task == Classification(("Jive", "Waltz"))
    assert listing.absent == 695
    notes = "\n".join(listing.notes)
    assert len(listing.notes) == 3
    assert "3 of 698 clips" in notes
    assert "Jive 1 of 60, Waltz 2 of 110" in notes
    assert "ChaChaCha, Quickstep, Rumba, Samba, Tango, VienneseWaltz" in notes


def test_ids_do_not_depend_on_the_format_and_the_published_one_comes_first(tmp_path: Path) -> None:
    make_files(tmp_path, "Waltz/Media-105901.flac")
    assert [track.id for track in Ballroom().listing(tmp_path).tracks] == ["Media-105901"]
    make_files(tmp_path, "Waltz/Media-105901.wav")
    listing = Ballroom().listing(tmp_path)
    assert [track.path.name for track in listing.tracks] == ["Media-105901.wav"]
    assert any("1 file " in note for note in listing.notes)


def test_unknown_audio_is_counted_and_other_files_are_ignored(tmp_path: Path) -> None:
    make_files(tmp_path, "Waltz/Media-105901.wav", "Waltz/100701.mp3", "Waltz/._Media-105902.wav", "Waltz/a.txt")
    listing = Ballroom().listing(tmp_path)
    assert [track.id for track in listing.tracks] == ["Media-105901"]
    assert any("1 audio file (not named like a clip" in note for note in listing.notes)


def test_a_clip_in_two_classes_is_an_error_that_names_both_files(tmp_path: Path) -> None:
    make_files(tmp_path, "Waltz/Media-105901.wav", "Tango/Media-105901.wav")
    with pytest.raises(DatasetError, match=r"Media-105901 .*Tango/Media-105901\.wav.*Waltz/Media-105901\.wav"):
        Ballroom().listing(tmp_path)


def test_a_wrong_folder_is_an_error_that_gives_its_content_and_what_was_expected(tmp_path: Path) -> None:
    make_files(tmp_path, "blues/blues.00000.wav")
    with pytest.raises(DatasetError, match=r"no Ballroom clips in .* 1 folder \('blues'\) .*'BallroomData'"):
        Ballroom().listing(tmp_path)


def test_one_of_each_pair_of_replicas_is_a_known_fault_and_both_where_their_classes_differ() -> None:
    faults = Ballroom().known_faults()
    assert len(faults) == 12 + 2
    assert faults["Media-104705"] == "exact replica of Albums-Secret_Garden-01"
    assert faults["Media-103415"] == "same recording as Media-103402"
    kept = {reason.split(" in another class")[0].split()[-1] for reason in faults.values()}
    assert kept & faults.keys() == {"Albums-Fire-08", "Albums-Fire-09"}


def test_the_card_describes_a_copy() -> None:
    card = Ballroom().card
    assert (card.n_tracks, card.rate) == (698, 44100)
    assert card.citation.startswith("@article{")
    assert [archive.checksum for archive in card.archives] == ["md5:2872a3e52070bc342a4510a95e2fa0b8"]


def test_a_real_clip_is_listed(real_data: Path) -> None:
    listing = Ballroom().listing(real_data / "ballroom_mini")
    assert [(track.id, track.label, track.group) for track in listing.tracks] == [("Media-105901", "Waltz", None)]
    assert listing.absent == 697


def test_every_published_name_is_a_clip(tmp_path: Path, real_data: Path) -> None:
    names = (real_data / "ballroom_mini" / "track_names.txt").read_text().split()
    listing = Ballroom().listing(make_files(tmp_path, *(f"Waltz/{name}.wav" for name in names)))
    assert {track.id for track in listing.tracks} == set(names)
    assert sum(track.group is not None for track in listing.tracks) == 244
    assert Ballroom().known_faults().keys() < set(names)
