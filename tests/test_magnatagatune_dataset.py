"""The dataset ``magnatagatune``: its folders, tables and usual split, in copies that look like the real one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from mirembed import DatasetError, Listing, Split, Tags
from mirembed_datasets.magnatagatune import TOP_50, MagnaTagATune

OTHER = ("jazzy", "water")
"""Stand for the 138 tags that are not among the top 50."""

CLIPS = {
    "2": ("f/bach_soloists-cantatas-01-aria-30-59.mp3", ("classical", "violin")),
    "6": ("f/bach_soloists-cantatas-01-aria-59-88.mp3", ("classical", "jazzy")),
    "10": ("0/nina-live-02-song-0-29.mp3", ("vocal",)),
    "11": ("b/nina-live-02-song-29-58.mp3", ("water",)),
    "12": ("c/sun_ra-space-01-place-0-29.mp3", ("synth", "weird")),
    "35644": ("6/norine-now-08-gently-117-146.mp3", ("slow",)),
}
"""Path and tags by clip id."""


def annotations(clips: Mapping[str, tuple[str, tuple[str, ...]]] = CLIPS, without: str = "") -> str:
    """Return ``annotations_final.csv``: separated by tabs, every value in quotation marks."""
    columns = ["clip_id", *sorted({*TOP_50, *OTHER} - {without}), "mp3_path"]
    rows = [
        [clip, *("1" if tag in tags else "0" for tag in columns[1:-1]), path] for clip, (path, tags) in clips.items()
    ]
    return "".join("\t".join(f'"{value}"' for value in row) + "\n" for row in (columns, *rows))


def make_copy(root: Path, text: str = "", info: str | None = "") -> Path:
    """Write a copy without the clip 35644; ``info`` None leaves out ``clip_info_final.csv``."""
    for clip, (path, _) in CLIPS.items():
        if clip != "35644":
            (root / "mp3" / path).parent.mkdir(parents=True, exist_ok=True)
            (root / "mp3" / path).touch()
    (root / "annotations_final.csv").write_text(text or annotations())
    if info is not None:
        artists = {
            "2": "Bach  Soloists",
            "6": "Bach Soloists",
            "10": "Nina",
            "11": "Nina",
            "99": "Other",
        }
        rows = "".join(f'"{clip}"\t"1"\t"A title"\t"{artist}"\n' for clip, artist in artists.items())
        (root / "clip_info_final.csv").write_text(info or f'"clip_id"\t"track_number"\t"title"\t"artist"\n{rows}')
    return root


def labels(listing: Listing) -> dict[str, object]:
    return {track.id: track.label for track in listing.tracks}


def test_a_clip_has_its_tags_among_the_50_most_frequent(tmp_path: Path) -> None:
    listing = MagnaTagATune().listing(make_copy(tmp_path))
    assert listing.task == Tags(TOP_50)
    assert len(set(TOP_50)) == 50
    assert labels(listing) == {
        "2": {"classical", "violin"},
        "6": {"classical"},
        "10": {"vocal"},
        "11": frozenset(),
        "12": {"synth", "weird"},
    }
    assert {track.id: track.path for track in listing.tracks}["10"] == tmp_path / "mp3" / CLIPS["10"][0]
    assert listing.absent == 1


def test_all_tags_are_those_of_the_table(tmp_path: Path) -> None:
    listing = MagnaTagATune(tags="all").listing(make_copy(tmp_path))
    assert listing.task == Tags(tuple(sorted({*TOP_50, *OTHER})))
    assert labels(listing)["11"] == {"water"}


def test_untagged_clips_can_be_left_out(tmp_path: Path) -> None:
    listing = MagnaTagATune(untagged=False).listing(make_copy(tmp_path))
    assert "11" not in labels(listing)
    assert any(note.startswith("skipped 1 clip (none of the 50 tags") for note in listing.notes)
    [split] = listing.schemes["folders"]
    assert "11" not in split.train


def test_the_usual_split_is_by_folder_with_c_to_validate_on(tmp_path: Path) -> None:
    listing = MagnaTagATune().listing(make_copy(tmp_path))
    validation = frozenset({"12"})
    assert listing.schemes == {
        "folders": [Split(frozenset({"10", "11", "12", "35644"}), frozenset({"2", "6"}), (validation,))]
    }
    assert tuple(listing.schemes) == MagnaTagATune.card.folds


def test_the_group_is_the_artist(tmp_path: Path) -> None:
    listing = MagnaTagATune().listing(make_copy(tmp_path))
    assert [track.group for track in listing.tracks] == [*["Bach Soloists"] * 2, "Nina", "Nina", None]
    assert any(note.startswith("1 clip without a group") for note in listing.notes)


@pytest.mark.parametrize("info", [None, "clip\tartist\n2\tNina\n"])
def test_without_artists_clips_have_no_group_and_a_note_says_why(tmp_path: Path, info: str | None) -> None:
    listing = MagnaTagATune().listing(make_copy(tmp_path, info=info))
    assert {track.group for track in listing.tracks} == {None}
    assert any("clip_info_final.csv" in note for note in listing.notes)


@pytest.mark.parametrize("given", [".", "mp3", "mp3/f"])
def test_the_copy_is_found_from_nearby_folders(tmp_path: Path, given: str) -> None:
    make_copy(tmp_path / "mtt")
    (tmp_path / "mtt" / "annotations_final.csv").rename(tmp_path / "mtt" / "mp3" / "annotations_final.csv")
    assert len(MagnaTagATune().listing(tmp_path / "mtt" / given).tracks) == 5


def test_ids_do_not_depend_on_the_audio_format(tmp_path: Path) -> None:
    copy = make_copy(tmp_path)
    file = copy / "mp3" / CLIPS["10"][0]
    file.rename(file.with_suffix(".wav"))
    assert {track.id: track.path for track in MagnaTagATune().listing(copy).tracks}["10"] == file.with_suffix(".wav")


def test_a_partial_copy_and_another_table_are_noted(tmp_path: Path) -> None:
    (make_copy(tmp_path) / "mp3" / "0" / "unknown-0-29.mp3").touch()
    notes = MagnaTagATune().listing(tmp_path).notes
    assert "5 of 25863 clips" in notes
    assert any(note.endswith("has 6 clips, the published one has 25863") for note in notes)
    assert any(note.startswith("skipped 1 clip (not in ") for note in notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (annotations(without="sitar"), "annotations_final.csv has no column 'sitar'"),
        (annotations().replace("mp3_path", "path"), "no column 'mp3_path'"),
        (annotations().replace('"1"', '"7"', 1), "line 2: '7' in column 'classical' is not 0 or 1"),
        (annotations() + annotations().splitlines()[1] + "\n", "line 8: clip 2 is listed twice"),
        (annotations({"2": ("g/elsewhere.mp3", ())}), "line 2: expected a clip_id such as 2 and an mp3_path"),
        (annotations({"5": ("f/elsewhere.mp3", ())}), "has no tags for the 5 clips"),
    ],
)
def test_a_table_that_is_not_the_published_one_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        MagnaTagATune().listing(make_copy(tmp_path, text))


def test_music_without_the_table_is_an_error_that_says_where_to_get_it(tmp_path: Path) -> None:
    (make_copy(tmp_path) / "annotations_final.csv").unlink()
    with pytest.raises(DatasetError, match=r"no annotations_final\.csv .*mirg\.city\.ac\.uk"):
        MagnaTagATune().listing(tmp_path)


def test_another_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "genre").mkdir()
    with pytest.raises(DatasetError, match="no MagnaTagATune clips"):
        MagnaTagATune().listing(tmp_path)


def test_the_empty_files_of_the_archive_are_known_faults() -> None:
    assert sorted(MagnaTagATune().known_faults()) == ["35644", "55753", "57881"]
