"""The dataset `library`: all audio files of a folder, labeled by their own tags or by playlists."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tagged_files import tagged, write_sound

from mirembed import Classification, DatasetError, FileTags, Listing, Regression, Tags, Target
from mirembed.registry import Registry
from mirembed.specs import Spec
from mirembed_datasets.library import Library


class Files:
    """A library of empty files, and what they would say about themselves."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tags: dict[Path, FileTags] = {}

    def add(self, name: str, **tags: Any) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        if tags:
            self.tags[path] = FileTags(**tags)

    def listing(self, **parameters: Any) -> Listing:
        return Library(**parameters).listing(self.root, file_tags=lambda path: self.tags.get(path, FileTags()))

    def labels(self, **parameters: Any) -> dict[str, Any]:
        return {track.id: track.label for track in self.listing(**parameters).tracks}

    def groups(self, **parameters: Any) -> list[str | None]:
        return [track.group for track in self.listing(label="none", **parameters).tracks]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "music")


def add_genres(files: Files, *genres: Sequence[str]) -> None:
    for number, names in enumerate(genres):
        files.add(f"{number}.mp3", genres=tuple(names))


def test_every_audio_file_is_a_track_in_any_layout(files):
    for name in ("a.mp3", "b/c.FLAC", "b/d/e/f.ogg", "g.opus"):
        files.add(name)
    for clutter in ("cover.jpg", ".h.mp3", ".trash/i.mp3", "b/._c.flac", "b/log.txt"):
        files.add(clutter)
    listing = files.listing(label="none")
    assert [track.id for track in listing.tracks] == ["a.mp3", "b/c.FLAC", "b/d/e/f.ogg", "g.opus"]
    assert listing.task is None
    assert {track.label for track in listing.tracks} == {None}
    assert any("2 files" in note for note in listing.notes)
    assert not any("genre" in note for note in listing.notes)


def test_two_files_with_one_name_are_two_tracks(files):
    files.add("a/1.mp3", genres=("Rock",))
    files.add("b/1.mp3", genres=("Jazz",))
    assert files.labels(min_tracks=1) == {"a/1.mp3": {"Rock"}, "b/1.mp3": {"Jazz"}}


class TestGenres:
    def test_genres_are_tags_and_a_track_without_one_is_unlabeled(self, files):
        add_genres(files, ["Rock"], ["Rock", "Jazz"], ["Jazz"], [])
        listing = files.listing(min_tracks=1)
        assert listing.task == Tags(("Jazz", "Rock"))
        assert [track.label for track in listing.tracks] == [{"Rock"}, {"Rock", "Jazz"}, {"Jazz"}, None]
        assert (listing.labels_from, listing.groups_from) == ("the files' genres", "the files' artists")

    def test_moods_are_tags_too(self, files):
        files.add("a.mp3", moods=("calm", "warm"))
        assert files.listing(label="mood", min_tracks=1).task == Tags(("calm", "warm"))

    def test_spellings_of_a_genre_are_merged_under_the_most_frequent(self, files):
        add_genres(files, ["hip hop"], ["Hip-Hop"], ["HIP-HOP"], ["Hip-Hop"], ["R&B"], ["r&b"], ["R&B"])
        assert files.listing().task == Tags(("Hip-Hop", "R&B"))

    def test_rare_genres_are_left_out_and_counted(self, files):
        add_genres(files, ["Rock", "Polka"], ["Rock"], ["Rock"], ["Polka"], ["Yodel"])
        listing = files.listing()
        assert listing.task == Tags(("Rock",))
        assert [track.label for track in listing.tracks] == [{"Rock"}, {"Rock"}, {"Rock"}, None, None]
        (rare,) = (note for note in listing.notes if "min_tracks" in note)
        assert "2 genres" in rare
        assert "2 tracks" in rare

    def test_a_thousand_genres_of_one_track_each_are_an_error_that_names_other_labels(self, files):
        for number in range(1000):
            files.add(f"{number}.mp3", genres=(f"genre {number}",), artists=("Ann",), year=1990)
        with pytest.raises(DatasetError) as caught:
            files.listing()
        assert "label=artist (1000 tracks)" in str(caught.value)
        assert "label=year (1000 tracks)" in str(caught.value)
        assert "label=mood" not in str(caught.value)
        assert "\n" in str(caught.value)


class TestArtistsAndAlbums:
    def test_artists_are_classes_grouped_by_album(self, files):
        files.add("1.mp3", artists=("Ann", "Bob"), album="Ten")
        files.add("2.mp3", artists=("ANN feat. Cid",), album="Ten")
        files.add("3.mp3", artists=("Ann (ft. Cid)",))
        files.add("4.mp3", album_artist="Bob", album="Two")
        listing = files.listing(label="artist", min_tracks=1)
        assert listing.task == Classification(("Ann", "Bob"))
        assert [track.label for track in listing.tracks] == ["Ann", "Ann", "Ann", "Bob"]
        assert [track.group for track in listing.tracks] == ["Ten", "Ten", None, "Two"]

    @pytest.mark.parametrize("name", ["Various Artists", "various", "VA", "Unknown Artist", "<unknown>"])
    def test_unknown_and_various_artists_are_not_artists(self, files, name):
        files.add("1.mp3", artists=(name,))
        files.add("2.mp3", artists=("Ann",))
        assert files.labels(label="artist", min_tracks=1) == {"1.mp3": None, "2.mp3": "Ann"}

    def test_albums_with_one_name_are_distinguished(self, files):
        files.add("1.mp3", album="Hits", album_artist="Ann")
        files.add("2.mp3", album="hits", album_artist="Bob")
        files.add("x/CD 1/3.mp3", album="Hits", artists=("Cid",))
        files.add("x/CD 2/4.mp3", album="Hits", artists=("Dan",))
        files.add("5.mp3", album="Ten", album_artist="Ann")
        listing = files.listing(label="album", min_tracks=1)
        labels = [track.label for track in listing.tracks]
        assert labels == ["Hits (Ann)", "hits (Bob)", "Ten", "Hits (x)", "Hits (x)"]
        assert {track.group for track in listing.tracks} == {None}

    @pytest.mark.parametrize(
        ("group", "groups"), [("artist", ["Ann", "Ann", None]), ("album", ["Ten", None, None]), ("none", [None] * 3)]
    )
    def test_groups_are_chosen(self, files, group, groups):
        files.add("1.mp3", artists=("Ann",), album="Ten")
        files.add("2.mp3", artists=("ann",))
        files.add("3.mp3")
        found = files.groups(group=group)
        assert [one and one.capitalize() for one in found] == groups
        assert group != "artist" or files.groups() == found
        notes = files.listing(label="none", group=group).notes
        assert any(f"without an {group}" in note for note in notes) == (group != "none")


def test_years_are_the_target_of_a_regression(files):
    files.add("1.mp3", year=1969)
    files.add("2.mp3", year=2009)
    files.add("3.mp3")
    listing = files.listing(label="year")
    assert listing.task == Regression((Target("year"),))
    assert [track.label for track in listing.tracks] == [(1969.0,), (2009.0,), None]


def test_the_folders_in_the_audio_folder_are_classes(files):
    for name in ("calm/1.mp3", "calm/x/2.mp3", "wild/3.mp3", "4.mp3"):
        files.add(name)
    listing = files.listing(label="folder", min_tracks=1)
    assert listing.task == Classification(("calm", "wild"))
    assert [track.label for track in listing.tracks] == [None, "calm", "calm", "wild"]


class TestPlaylists:
    @pytest.fixture
    def music(self, files: Files) -> Files:
        for name in ("a/1.mp3", "a/2.mp3", "b/1.mp3", "b/2.mp3"):
            files.add(name)
        return files

    def write(self, files: Files, name: str, *entries: str) -> None:
        path = files.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{entry}\n" for entry in entries))

    def test_playlists_are_tags(self, music):
        self.write(music, "Party.m3u8", "a/1.mp3", "b/1.mp3", "a/1.mp3")
        self.write(music, "lists/Calm.m3u", "../a/1.mp3", r"..\a\2.mp3")
        listing = music.listing(label="playlists", min_tracks=1)
        assert listing.task == Tags(("Calm", "Party"))
        assert {track.id: track.label for track in listing.tracks} == {
            "a/1.mp3": {"Calm", "Party"},
            "a/2.mp3": {"Calm"},
            "b/1.mp3": {"Party"},
            "b/2.mp3": None,
        }

    def test_missing_and_remote_entries_are_counted(self, music):
        self.write(music, "p.m3u", "a/1.mp3", "gone.mp3", "/elsewhere/x/3.mp3", "http://radio.example/")
        notes = music.listing(label="playlists", min_tracks=1).notes
        (read,) = (note for note in notes if "playlist with" in note)
        assert "4 entries" in read
        assert "2 not in the library" in read
        assert "1 remote" in read

    def test_playlists_with_one_name_are_distinguished(self, music):
        self.write(music, "x/Mix.m3u", "../a/1.mp3")
        self.write(music, "y/Mix.m3u", "../a/2.mp3")
        self.write(music, "y/Mix.pls", "[playlist]", "File1=../a/2.mp3")
        self.write(music, "y/Other.m3u", "../b/1.mp3")
        task = music.listing(label="playlists", min_tracks=1).task
        assert task == Tags(("Mix (x/Mix.m3u)", "Mix (y/Mix.m3u)", "Other"))

    def test_playlists_may_be_in_another_folder(self, music, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        self.write(music, "../lists/p.m3u", "/old/place/a/1.mp3")
        self.write(music, "q.m3u", "a/2.mp3")
        for folder in (tmp_path / "lists", Path("lists")):
            listing = music.listing(label="playlists", playlists=folder, min_tracks=1)
            assert listing.task == Tags(("p",))
        self.write(music, "own/r.m3u", "../a/1.mp3")
        assert music.listing(label="playlists", playlists=Path("own"), min_tracks=1).task == Tags(("r",))
        with pytest.raises(DatasetError, match="'nowhere'"):
            music.listing(label="playlists", playlists=Path("nowhere"))

    def test_playlist_names_need_not_be_valid_text(self, music):
        self.write(music, os.fsdecode(b"caf\xe9.m3u"), "a/1.mp3")
        self.write(music, os.fsdecode(b"th\xe9.xspf"), "<")
        listing = music.listing(label="playlists", min_tracks=1)
        assert listing.task == Tags((r"caf\xe9",))
        assert all(note.encode() for note in listing.notes)

    def test_a_damaged_playlist_is_skipped_with_a_note(self, music):
        self.write(music, "p.m3u", "a/1.mp3")
        self.write(music, "q.xspf", "<playlist>")
        assert any("q.xspf" in note for note in music.listing(label="playlists", min_tracks=1).notes)


class TestMistakes:
    def test_an_empty_folder_is_an_error(self, tmp_path):
        (tmp_path / "cover.jpg").touch()
        with pytest.raises(DatasetError, match="1 file"):
            Library().listing(tmp_path)

    @pytest.mark.parametrize("label", ["genre", "artist", "album", "mood", "year", "playlists"])
    def test_files_without_tags_still_have_folders(self, files, label):
        for number in range(3):
            files.add(f"x/{number}.mp3")
        with pytest.raises(DatasetError, match=r"(?s)3 tracks.*label=folder \(3 tracks\).*label=none"):
            files.listing(label=label)

    @pytest.mark.parametrize(
        "parameters", [{"min_tracks": 0}, {"playlists": Path("x")}, {"playlists": Path("x"), "label": "artist"}]
    )
    def test_parameters_are_checked(self, parameters):
        with pytest.raises(DatasetError, match=next(iter(parameters))):
            Library(**parameters)

    def test_the_command_line_offers_the_labels(self):
        registry = Registry.discover()
        made = registry.create("dataset", Spec.parse("library:label=artist,group=none,min_tracks=1"))
        assert (made.label, made.group, made.min_tracks) == ("artist", "none", 1)
        with pytest.raises(Exception, match="playlists"):
            registry.create("dataset", Spec.parse("library:label=tempo"))


def test_real_files_are_read(tmp_path):
    tagged(tmp_path / "a.flac", genre="Rock", artist="Ann")
    tagged(tmp_path / os.fsdecode(b"caf\xe9.ogg"), genre="rock", artist="Bob")
    write_sound(tmp_path / "c.wav")
    listing = Library(min_tracks=2).listing(tmp_path)
    assert listing.task == Tags(("Rock",))
    assert {track.id: (track.label, track.group) for track in listing.tracks} == {
        "a.flac": ({"Rock"}, "Ann"),
        "c.wav": (None, None),
        r"caf\xe9.ogg": ({"Rock"}, "Bob"),
    }
