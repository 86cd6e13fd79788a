"""The dataset ``lastfm``: a folder for each mood, or a table next to the audio."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirembed import Classification, DatasetError, Listing
from mirembed_datasets.lastfm import Lastfm

MOODS = ("happy", "sad", "angry", "relaxed")
SONGS = ("happy/a.mp3", "sad/b.mp3", "angry/c.mp3", "relaxed/d.mp3")


def make_files(root: Path, *names: str) -> Path:
    """Write empty files: listing does not read the audio."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def labels(listing: Listing) -> dict[str, object]:
    return {track.id: track.label for track in listing.tracks}


class TestFolders:
    """A folder for each mood."""

    def test_each_folder_is_a_mood(self, tmp_path: Path) -> None:
        listing = Lastfm().listing(make_files(tmp_path, *SONGS))
        assert listing.task == Classification(MOODS)
        assert labels(listing) == {"happy/a": "happy", "sad/b": "sad", "angry/c": "angry", "relaxed/d": "relaxed"}
        assert list(listing.notes) == ["4 of 2904 clips"]
        assert listing.absent == 0

    def test_folder_names_ignore_case_and_folders_are_searched_at_any_depth(self, tmp_path: Path) -> None:
        listing = Lastfm().listing(make_files(tmp_path, "Happy/artist/album/1. one.OGG"))
        assert labels(listing) == {"happy/artist/album/1. one": "happy"}

    @pytest.mark.parametrize("given", [".", "mine", "mine/moods", "mine/moods/sad"])
    def test_the_mood_folders_are_found_from_nearby_folders(self, tmp_path: Path, given: str) -> None:
        home = make_files(tmp_path / "mine" / "moods", *SONGS)
        listing = Lastfm().listing(tmp_path / given)
        assert listing.tracks == Lastfm().listing(home).tracks
        assert (f"clips found in {str(home)!r}" in listing.notes) == (tmp_path / given != home)

    def test_a_mood_without_clips_is_left_out_and_noted(self, tmp_path: Path) -> None:
        make_files(tmp_path, "happy/a.mp3", "sad/b.txt")
        listing = Lastfm().listing(tmp_path)
        assert listing.task == Classification(("happy",))
        assert any(note.endswith(": sad, angry, relaxed") for note in listing.notes)

    def test_other_folders_and_loose_audio_are_counted(self, tmp_path: Path) -> None:
        listing = Lastfm().listing(make_files(tmp_path, *SONGS, "bored/e.mp3", "f.mp3"))
        assert len(listing.tracks) == 4
        assert any("1 folder" in note and "'bored'" in note for note in listing.notes)
        assert any("1 audio file (not in a mood folder)" in note for note in listing.notes)

    def test_a_clip_in_two_formats_is_one(self, tmp_path: Path) -> None:
        listing = Lastfm().listing(make_files(tmp_path, "happy/a.mp3", "happy/a.wav"))
        assert [track.path.name for track in listing.tracks] == ["a.mp3"]
        assert "1 file " in listing.notes[-1]

    def test_links_out_of_the_copy_are_counted(self, tmp_path: Path) -> None:
        make_files(tmp_path, "copy/happy/a.mp3", "elsewhere/b.mp3")
        (tmp_path / "copy" / "happy" / "b.mp3").symlink_to(tmp_path / "elsewhere" / "b.mp3")
        listing = Lastfm().listing(tmp_path / "copy")
        assert labels(listing) == {"happy/a": "happy"}
        assert any("1 symbolic link" in note for note in listing.notes)


class TestTable:
    """A table next to the audio."""

    def make_copy(self, root: Path, text: str, name: str = "labels.csv") -> Path:
        make_files(root, "audio/a.mp3", "audio/b.mp3")
        (root / name).write_bytes(text.encode())
        return root

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("labels.csv", "path,class\na.mp3,happy\nb.mp3,sad\n"),
            ("labels.tsv", "path\tclass\na.mp3\thappy\nb.mp3\tsad\n"),
            ("labels.csv", "id,class\na,happy\nb,sad\n"),
            ("labels.csv", "\ufeffid ; class\r\na ; Happy\r\nb ; SAD\r\n"),
        ],
    )
    def test_paths_or_ids_are_relative_to_the_audio_folder(self, tmp_path: Path, name: str, text: str) -> None:
        listing = Lastfm().listing(self.make_copy(tmp_path, text, name))
        assert listing.task == Classification(("happy", "sad"))
        assert labels(listing) == {"a.mp3": "happy", "b.mp3": "sad"}
        assert listing.tracks[0].path == tmp_path / "audio" / "a.mp3"

    def test_paths_may_be_relative_to_the_table(self, tmp_path: Path) -> None:
        copy = self.make_copy(tmp_path, "path,class\naudio/a.mp3,happy\naudio/b.mp3,sad\n")
        assert labels(Lastfm().listing(copy)) == {"audio/a.mp3": "happy", "audio/b.mp3": "sad"}

    @pytest.mark.parametrize("given", [".", "mine", "mine/audio"])
    def test_the_table_is_found_from_nearby_folders(self, tmp_path: Path, given: str) -> None:
        self.make_copy(tmp_path / "mine", "path,class\na.mp3,happy\nb.mp3,sad\n")
        assert labels(Lastfm().listing(tmp_path / given)) == {"a.mp3": "happy", "b.mp3": "sad"}

    def test_the_table_may_be_in_the_current_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(self.make_copy(tmp_path, "path,class\na.mp3,happy\nb.mp3,sad\n"))
        assert labels(Lastfm().listing(Path())) == {"a.mp3": "happy", "b.mp3": "sad"}

    def test_rows_without_audio_are_absent_and_audio_without_rows_is_counted(self, tmp_path: Path) -> None:
        listing = Lastfm().listing(self.make_copy(tmp_path, "path,class\na.mp3,happy\nc.mp3,sad\nd.mp3,sad\n"))
        assert labels(listing) == {"a.mp3": "happy"}
        assert listing.absent == 2
        assert any("1 audio file (not listed in " in note for note in listing.notes)

    def test_other_classes_are_left_out_and_noted(self, tmp_path: Path) -> None:
        listing = Lastfm().listing(self.make_copy(tmp_path, "path,class\na.mp3,happy\nb.mp3,bored\n"))
        assert labels(listing) == {"a.mp3": "happy"}
        assert any("1 clip" in note and note.endswith(": bored") for note in listing.notes)

    def test_a_table_of_other_classes_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"labels\.csv.* bored.* happy, sad, angry, relaxed"):
            Lastfm().listing(self.make_copy(tmp_path, "path,class\na.mp3,bored\nb.mp3,bored\n"))

    def test_contradictory_rows_are_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"line 3: 'a.mp3' is 'sad', but 'happy' on line 2"):
            Lastfm().listing(self.make_copy(tmp_path, "path,class\na.mp3,happy\na.mp3,sad\n"))

    def test_a_table_of_other_files_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"1 track of .*labels.csv.* 'x.mp3'"):
            Lastfm().listing(self.make_copy(tmp_path, "path,class\nx.mp3,happy\n"))

    def test_two_tables_are_an_error(self, tmp_path: Path) -> None:
        self.make_copy(tmp_path, "path,class\na.mp3,happy\n")
        self.make_copy(tmp_path, "path\tclass\na.mp3\thappy\n", "labels.tsv")
        with pytest.raises(DatasetError, match=r"labels.csv and labels.tsv"):
            Lastfm().listing(tmp_path)


def test_a_wrong_folder_is_an_error_that_gives_its_content_and_what_was_expected(tmp_path: Path) -> None:
    make_files(tmp_path, "blues/blues.00000.wav")
    with pytest.raises(DatasetError, match=r"no Last.fm clips in .* 1 folder \('blues'\) .*labels.csv or labels.tsv"):
        Lastfm().listing(tmp_path)


def test_a_folder_next_to_the_mood_folders_is_not_part_of_the_copy(tmp_path: Path) -> None:
    make_files(tmp_path, *SONGS, "empty/readme.txt")
    with pytest.raises(DatasetError, match=r"no Last\.fm clips"):
        Lastfm().listing(tmp_path / "empty")


def test_the_card_describes_a_copy() -> None:
    card = Lastfm().card
    assert card.n_tracks == 2904
    assert card.archives == ()
    assert card.citation.startswith("@inproceedings{")
