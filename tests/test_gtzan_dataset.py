"""The dataset ``gtzan``: finding the clips in the copies in circulation."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirembed import Classification, DatasetError
from mirembed_datasets.gtzan import Gtzan

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")


def make_copy(folder: Path, *, clips: int = 2, genres: tuple[str, ...] = GENRES, suffix: str = "wav") -> Path:
    """Write empty files in the layout of the archive: listing does not read the audio."""
    for genre in genres:
        (folder / genre).mkdir(parents=True, exist_ok=True)
        for number in range(clips):
            (folder / genre / f"{genre}.{number:05}.{suffix}").touch()
    return folder


def test_a_complete_copy_is_listed_without_notes(tmp_path: Path) -> None:
    listing = Gtzan().listing(make_copy(tmp_path, clips=100))
    assert listing.task == Classification(GENRES)
    assert [track.id for track in listing.tracks] == [
        f"{genre}.{number:05}" for genre in GENRES for number in range(100)
    ]
    assert all(track.id.startswith(f"{track.label}.") for track in listing.tracks)
    assert all(track.path.is_file() and track.path.stem == track.id for track in listing.tracks)
    assert (listing.absent, list(listing.notes)) == (0, [])


def test_a_partial_copy_works_and_is_noted(tmp_path: Path) -> None:
    listing = Gtzan().listing(make_copy(tmp_path, clips=10))
    assert len(listing.tracks) == 100
    assert listing.absent == 900
    assert list(listing.notes) == ["100 of 1000 clips"]


def test_classes_without_clips_are_left_out_and_noted(tmp_path: Path) -> None:
    make_copy(tmp_path, genres=("rock", "jazz"))
    (tmp_path / "pop").mkdir()
    listing = Gtzan().listing(tmp_path)
    assert listing.task == Classification(("jazz", "rock"))
    complete, classes = listing.notes
    assert complete == "4 of 1000 clips"
    assert classes.endswith(": blues, classical, country, disco, hiphop, metal, pop, reggae")


@pytest.mark.parametrize("given", ["Data/genres_original", "Data", ".", "Data/genres_original/jazz"])
def test_the_genre_folders_are_found_from_nearby_folders(tmp_path: Path, given: str) -> None:
    copy = make_copy(tmp_path / "Data" / "genres_original")
    make_copy(tmp_path / "Data" / "images_original", suffix="png")
    (tmp_path / "Data" / "features_30_sec.csv").touch()
    (copy / "bl.mf").touch()
    listing = Gtzan().listing(tmp_path / given)
    assert listing.tracks == Gtzan().listing(copy).tracks
    found = [note for note in listing.notes if "clips found in" in note]
    assert found == ([] if tmp_path / given == copy else [f"clips found in {str(copy)!r}"])


def test_the_current_folder_may_be_a_genre_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_copy(tmp_path) / "jazz")
    assert len(Gtzan().listing(Path()).tracks) == 20


def test_a_copy_three_levels_down_is_not_found(tmp_path: Path) -> None:
    make_copy(tmp_path / "a" / "b" / "genres")
    with pytest.raises(DatasetError, match="no GTZAN clips"):
        Gtzan().listing(tmp_path)


@pytest.mark.parametrize("name", ["blues.00012.{}", "blues_00012.{}", "Blues.00012.{}"])
@pytest.mark.parametrize("suffix", ["wav", "au", "mp3", "flac", "WAV"])
def test_ids_do_not_depend_on_format_and_spelling(tmp_path: Path, name: str, suffix: str) -> None:
    (tmp_path / "blues").mkdir()
    file = tmp_path / "blues" / name.format(suffix)
    file.touch()
    (track,) = Gtzan().listing(tmp_path).tracks
    assert (track.id, track.label, track.path) == ("blues.00012", "blues", file)


def test_one_of_several_formats_is_chosen_and_the_others_are_counted(tmp_path: Path) -> None:
    for suffix in ("mp3", "flac", "au", "wav"):
        make_copy(tmp_path, genres=("blues",), clips=1, suffix=suffix)
        (track,) = Gtzan().listing(tmp_path).tracks
        assert track.path.suffix == f".{suffix}"
    (tmp_path / "blues" / "blues_00000.wav").touch()
    listing = Gtzan().listing(tmp_path)
    assert [track.path.name for track in listing.tracks] == ["blues.00000.wav"]
    assert "4 files " in listing.notes[-1]


def test_a_genre_folder_in_capitals_is_the_genre(tmp_path: Path) -> None:
    make_copy(tmp_path / "small", genres=("blues",)).joinpath("blues").rename(tmp_path / "Blues")
    assert [(track.id, track.label) for track in Gtzan().listing(tmp_path).tracks] == [
        ("blues.00000", "blues"),
        ("blues.00001", "blues"),
    ]


def test_unknown_audio_is_counted(tmp_path: Path) -> None:
    make_copy(tmp_path, genres=("blues",), clips=1)
    (tmp_path / "blues" / "rock.00001.wav").touch()
    assert "1 audio file (not named like a clip" in Gtzan().listing(tmp_path).notes[-1]


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


def test_a_wrong_folder_is_an_error_that_gives_its_content_and_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "Waltz").mkdir()
    (tmp_path / "a.wav").touch()
    with pytest.raises(DatasetError) as caught:
        Gtzan().listing(tmp_path)
    message = str(caught.value)
    assert repr(str(tmp_path)) in message
    assert "1 folder ('Waltz') and 1 file ('a.wav')" in message
    assert "'genres' or 'genres_original'" in message
    assert "blues/blues.00000.wav" in message


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"there is no folder '.*nowhere'"):
        Gtzan().listing(tmp_path / "nowhere")


def test_the_group_is_the_artist_in_the_published_split(tmp_path: Path) -> None:
    tracks = Gtzan().listing(make_copy(tmp_path, clips=100)).tracks
    group_of = {track.id: track.group for track in tracks}
    assert sum(group is None for group in group_of.values()) == 52
    assert len(set(group_of.values()) - {None}) == 412
    assert group_of["blues.00000"] == group_of["blues.00011"] == "0"
    assert group_of["blues.00012"] == "1"
    assert group_of["reggae.00086"] is None
    labels = {(track.group, track.label) for track in tracks if track.group}
    assert len(labels) == 412, "an artist is in one genre only"


def all_ids() -> set[str]:
    return {f"{genre}.{number:05}" for genre in GENRES for number in range(100)}


def test_the_fault_filtered_split_is_that_of_kereliuk_et_al() -> None:
    (split,) = Gtzan().schemes()["kereliuk"]
    assert (len(split.train), len(split.test)) == (640, 290)
    assert not split.train & split.test
    assert split.train | split.test < all_ids()
    assert "blues.00012" in split.test
    assert {"blues.00029", "blues.00000"} < split.train, "one of the training part, one of the validation part"


def test_the_three_folds_test_each_clip_once_and_share_no_artist(tmp_path: Path) -> None:
    group_of = {track.id: track.group for track in Gtzan().listing(make_copy(tmp_path, clips=100)).tracks}
    splits = Gtzan().schemes()["sturm3"]
    assert [(len(split.train), len(split.test)) for split in splits] == [(633, 315), (632, 316), (631, 317)]
    scored = [clip for split in splits for clip in split.test]
    assert len(scored) == len(set(scored)) == 948
    for split in splits:
        assert split.train == set(scored) - split.test
        assert not {group_of[clip] for clip in split.train} & {group_of[clip] for clip in split.test}


def test_known_faults_are_what_the_fault_filtered_split_leaves_out_and_the_corrupt_clip() -> None:
    faults = Gtzan().known_faults()
    (split,) = Gtzan().schemes()["kereliuk"]
    assert faults.pop("jazz.00054") == "corrupt in many copies"
    assert set(faults) == all_ids() - split.train - split.test
    assert len(faults) == 70
    assert set(faults.values()) == {"left out of the fault-filtered split of Kereliuk et al. (2015)"}


def test_the_card_describes_a_copy() -> None:
    card = Gtzan().card
    assert (card.n_tracks, card.rate) == (1000, 22050)
    assert card.citation.startswith("@article{")
    assert [archive.checksum[:15] for archive in card.archives] == ["sha256:24347e02"]
    assert card.seconds is not None
    assert card.seconds[0] < 30.0 < 30.371 < card.seconds[1]


def names_in(file: Path) -> set[str]:
    """Read a published list: one path per line, up to a tab if there is one, with a dot or an underscore."""
    paths = [line.split("\t")[0] for line in file.read_text().splitlines() if line.strip()]
    return {Path(path).stem.replace("_", ".") for path in paths}


def test_the_splits_are_the_published_lists(real_data: Path) -> None:
    lists = real_data / "gtzan_splits"
    schemes = Gtzan().schemes()
    (split,) = schemes["kereliuk"]
    train, valid, test = (
        names_in(lists / "kereliuk_filtered" / f"{part}_filtered.txt") for part in ("train", "valid", "test")
    )
    assert (split.train, split.test) == (train | valid, test)
    for number, split in enumerate(schemes["sturm3"], start=1):
        assert split.train == names_in(lists / "foleiss_sturm_3fold" / f"f{number}_train.txt")
        assert split.test == names_in(lists / "foleiss_sturm_3fold" / f"f{number}_evaluate.txt")


def test_the_groups_are_the_published_ones(tmp_path: Path, real_data: Path) -> None:
    lists = real_data / "gtzan_splits" / "foleiss_sturm_3fold"
    published = {}
    for number in (1, 2, 3):
        for line in (lists / f"f{number}_evaluate_groups.txt").read_text().splitlines():
            path, group = line.split("\t")
            published[Path(path).stem.replace("_", ".")] = group
    tracks = Gtzan().listing(make_copy(tmp_path, clips=100)).tracks
    assert {track.id: track.group for track in tracks if track.group} == published


@pytest.mark.parametrize("given", ["gtzan_mini", "gtzan_mini/genres", "gtzan_mini/genres/pop"])
def test_a_real_copy_is_listed(given: str, real_data: Path) -> None:
    listing = Gtzan().listing(real_data / given)
    assert listing.task == Classification(GENRES)
    assert len(listing.tracks) == 100
    assert "100 of 1000 clips" in listing.notes
