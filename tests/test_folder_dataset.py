"""The dataset ``folder``: your own audio files, labeled by class folders or by a table."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirembed import Classification, DatasetError, Listing, Regression, Tags, Target
from mirembed_datasets.folder import Folder
from mirembed_datasets.tables import read_table


def make_files(root: Path, *names: str) -> Path:
    """Write empty files: listing does not read the audio."""
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def ids(listing: Listing) -> list[str]:
    return [track.id for track in listing.tracks]


def labels(listing: Listing) -> dict[str, object]:
    return {track.id: track.label for track in listing.tracks}


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    return make_files(tmp_path / "audio", "x/a.wav", "x/b.mp3", "y/c.wav")


class TestClassFolders:
    def test_each_folder_is_a_class_and_ids_are_relative_paths(self, audio: Path) -> None:
        listing = Folder().listing(audio)
        assert listing.task == Classification(("x", "y"))
        assert labels(listing) == {"x/a.wav": "x", "x/b.mp3": "x", "y/c.wav": "y"}
        assert [track.path for track in listing.tracks] == [audio / id_ for id_ in ids(listing)]
        assert {track.group for track in listing.tracks} == {None}
        assert (listing.absent, list(listing.notes)) == (0, [])

    def test_audio_is_found_at_any_depth_and_with_suffixes_in_capitals(self, audio: Path) -> None:
        make_files(audio, "y/disc 1/side a/d.FLAC")
        assert labels(Folder().listing(audio))["y/disc 1/side a/d.FLAC"] == "y"

    def test_hidden_files_and_folders_are_skipped(self, audio: Path) -> None:
        make_files(audio, "x/._a.wav", ".cache/d.wav", "x/.trash/e.wav")
        listing = Folder().listing(audio)
        assert ids(listing) == ["x/a.wav", "x/b.mp3", "y/c.wav"]
        assert not listing.notes

    def test_other_files_are_counted(self, audio: Path) -> None:
        make_files(audio, "x/cover.jpg", "readme.txt")
        assert list(Folder().listing(audio).notes) == ["skipped 2 files (not audio)"]

    def test_audio_outside_of_class_folders_is_counted(self, audio: Path) -> None:
        make_files(audio, "loose.wav")
        listing = Folder().listing(audio)
        assert "loose.wav" not in ids(listing)
        assert list(listing.notes) == ["skipped 1 audio file (not in a class folder)"]

    def test_a_folder_without_audio_is_not_a_class_and_is_noted(self, audio: Path) -> None:
        (audio / "z").mkdir()
        listing = Folder().listing(audio)
        assert listing.task == Classification(("x", "y"))
        assert list(listing.notes) == ["skipped 1 folder (no audio): 'z'"]

    def test_one_class_is_allowed(self, tmp_path: Path) -> None:
        assert Folder().listing(make_files(tmp_path, "x/a.wav")).task == Classification(("x",))

    def test_broken_circular_and_outside_links_are_counted(self, audio: Path, tmp_path: Path) -> None:
        elsewhere = make_files(tmp_path / "elsewhere", "d.wav")
        (audio / "x" / "file.wav").symlink_to(elsewhere / "d.wav")
        (audio / "x" / "folder").symlink_to(elsewhere)
        (audio / "x" / "broken.wav").symlink_to(audio / "nothing.wav")
        (audio / "x" / "itself.wav").symlink_to(audio / "x" / "itself.wav")
        (audio / "x" / "circle").symlink_to(audio)
        listing = Folder().listing(audio)
        assert ids(listing) == ["x/a.wav", "x/b.mp3", "y/c.wav"]
        (note,) = listing.notes
        assert "5 symbolic links" in note

    def test_links_inside_the_folder_are_followed(self, audio: Path) -> None:
        (audio / "z").symlink_to(audio / "y")
        assert labels(Folder().listing(audio))["z/c.wav"] == "z"

    def test_the_audio_folder_may_be_a_link(self, audio: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(audio)
        assert ids(Folder().listing(tmp_path / "link")) == ids(Folder().listing(audio))

    def test_file_names_that_are_not_utf8_are_escaped(self, audio: Path) -> None:
        path = Path(os.fsdecode(os.fsencode(audio / "x") + b"/caf\xe9.wav"))
        path.touch()
        listing = Folder().listing(audio)
        assert {track.id: track.path for track in listing.tracks}["x/caf\\xe9.wav"] == path
        (audio / "x" / "caf\\xe9.wav").touch()
        listing = Folder().listing(audio)
        assert len(listing.tracks) == 4
        (note,) = listing.notes
        assert "1 audio file" in note
        assert "UTF-8" in note

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
    def test_an_unreadable_folder_is_counted(self, audio: Path) -> None:
        (audio / "y").chmod(0)
        notes = Folder().listing(audio).notes
        (audio / "y").chmod(0o700)
        assert any("1 folder" in note and "permission" in note for note in notes)

    def test_a_missing_folder_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"there is no folder '.*nowhere'"):
            Folder().listing(tmp_path / "nowhere")

    def test_a_file_instead_of_a_folder_is_an_error(self, audio: Path) -> None:
        with pytest.raises(DatasetError, match=r"a\.wav' is a file"):
            Folder().listing(audio / "x" / "a.wav")

    def test_a_folder_without_audio_is_an_error(self, tmp_path: Path) -> None:
        make_files(tmp_path, "x/notes.txt")
        with pytest.raises(DatasetError, match=r"no audio files .* 1 other file.*\.wav"):
            Folder().listing(tmp_path)

    def test_audio_without_class_folders_is_an_error(self, tmp_path: Path) -> None:
        make_files(tmp_path, "a.wav", "b.wav")
        with pytest.raises(DatasetError, match=r"2 audio files .*labels=FILE"):
            Folder().listing(tmp_path)


class TestTableOfClasses:
    def listing(self, audio: Path, text: str, name: str = "labels.csv", **columns: str) -> Listing:
        (audio / name).write_text(text, encoding="utf-8")
        return Folder(labels=Path(name), **columns).listing(audio)

    def test_a_row_gives_a_track_its_class(self, audio: Path) -> None:
        listing = self.listing(audio, "path,label\nx/a.wav,happy\ny/c.wav,sad\nx/b.mp3,happy\n")
        assert listing.task == Classification(("happy", "sad"))
        assert labels(listing) == {"x/a.wav": "happy", "x/b.mp3": "happy", "y/c.wav": "sad"}
        assert [track.path for track in listing.tracks] == [audio / id_ for id_ in ids(listing)]
        assert (listing.absent, list(listing.notes)) == (0, [])

    @pytest.mark.parametrize(
        "text",
        [
            'path,label\nx/a.wav,happy\ny/c.wav,"sad, very"\n',
            "path;label\nx/a.wav;happy\ny/c.wav;sad, very\n",
            "path\tlabel\nx/a.wav\thappy\ny/c.wav\tsad, very\n",
            'path, label\r\nx/a.wav, happy\r\n\r\ny/c.wav, "sad, very"\r\n',
            '\ufeff"path";"label"\r\n"x/a.wav";"happy"\r\n"y/c.wav";"sad, very"\r\n',
            " path ; label \nx/a.wav ; happy \n;\n y/c.wav ; sad, very \n",
            "artist's; name;path;label;\n1;;x/a.wav;happy;\n2;;y/c.wav;sad, very;\n",
        ],
        ids=[
            "comma",
            "semicolon",
            "tab",
            "space after comma",
            "byte order mark",
            "spaces",
            "nameless column",
        ],
    )
    def test_delimiter_byte_order_mark_line_endings_and_spaces_do_not_matter(self, audio: Path, text: str) -> None:
        listing = self.listing(audio, text, path="path", label="label")
        assert labels(listing) == {"x/a.wav": "happy", "y/c.wav": "sad, very"}

    def test_json_lines_are_read(self, audio: Path) -> None:
        rows = [{"path": "x/a.wav", "label": "happy"}, {"label": 1, "path": "y/c.wav", "year": None}]
        text = "\n\n".join(json.dumps(row) for row in rows)
        assert labels(self.listing(audio, text, "l.jsonl")) == {"x/a.wav": "happy", "y/c.wav": "1"}

    def test_a_table_in_the_current_folder_comes_before_one_in_the_audio_folder(
        self, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (audio / "labels.csv").write_text("path,label\nx/a.wav,there\n")
        assert labels(Folder(labels=Path("labels.csv")).listing(audio)) == {"x/a.wav": "there"}
        (tmp_path / "labels.csv").write_text("path,label\nx/a.wav,here\n")
        assert labels(Folder(labels=Path("labels.csv")).listing(audio)) == {"x/a.wav": "here"}

    @pytest.mark.parametrize("header", ["id,path,label", "id,Filename,Genre", "mood,file,label", "mood,FILE,class"])
    def test_columns_with_usual_names_are_found(self, audio: Path, header: str) -> None:
        assert labels(self.listing(audio, f"{header}\n7,x/a.wav,slow\n")) == {"x/a.wav": "slow"}

    def test_the_only_remaining_column_is_the_class(self, audio: Path) -> None:
        listing = self.listing(audio, "file,artist,tempo\nx/a.wav,Nina,slow\n", group="artist")
        assert labels(listing) == {"x/a.wav": "slow"}

    def test_columns_can_be_chosen(self, audio: Path) -> None:
        text = "path,where,label,what,who\nz,x/a.wav,z,slow,Nina\nz,y/c.wav,z,fast,\n"
        listing = self.listing(audio, text, path="where", label="what", group="who")
        assert labels(listing) == {"x/a.wav": "slow", "y/c.wav": "fast"}
        assert [track.group for track in listing.tracks] == ["Nina", None]
        assert any(note.startswith("1 track without a group") and "'who'" in note for note in listing.notes)

    @pytest.mark.parametrize(
        ("text", "columns", "message"),
        [
            ("where,label\nx/a.wav,slow\n", {}, "give path=COLUMN, one of 'where', 'label'"),
            ("path,a,b\nx/a.wav,1,2\n", {}, "give label=COLUMN.* 'path', 'a', 'b'"),
            ("path,a\nx/a.wav,1\n", {"label": "b"}, "no column 'b'.* 'path', 'a'"),
            ("path,a\nx/a.wav,1\n", {"group": "b"}, "no column 'b'"),
            ("path,a\nx/a.wav,1\n", {"path": "b"}, "no column 'b'"),
            ("path,a\nx/a.wav,1\n", {"target": "a+b"}, "no column 'b'"),
            ("path,a,a\nx/a.wav,1,2\n", {}, "two columns named 'a'"),
        ],
    )
    def test_a_missing_column_is_an_error_that_lists_the_columns(
        self, audio: Path, text: str, columns: dict[str, str], message: str
    ) -> None:
        with pytest.raises(DatasetError, match=message):
            self.listing(audio, text, **columns)

    def test_a_path_without_suffix_matches_the_audio_file_with_that_stem(self, tmp_path: Path) -> None:
        make_files(tmp_path, "x/jazz.00054.au", "x/b.txt", "x/b.mp3")
        listing = self.listing(tmp_path, "path,label\nx/jazz.00054,jazz\nx/b,pop\n")
        assert labels(listing) == {"x/b.mp3": "pop", "x/jazz.00054.au": "jazz"}

    def test_a_path_without_suffix_that_matches_two_files_is_an_error(self, audio: Path) -> None:
        make_files(audio, "x/a.mp3")
        with pytest.raises(DatasetError, match=r"line 2: 'x/a' may be any of x/a\.mp3, x/a\.wav"):
            self.listing(audio, "path,label\nx/a,slow\n")

    @pytest.mark.parametrize("path", ["./x//a.wav", r"x\a.wav", "y/../x/a.wav", "x/a"])
    def test_an_id_is_the_posix_path_of_the_file(self, audio: Path, path: str) -> None:
        assert ids(self.listing(audio, f"path,label\n{path},slow\n")) == ["x/a.wav"]

    @pytest.mark.parametrize(
        "path", ["../audio/x/a.wav", "..", "x/../../a.wav", "/x/a.wav", r"C:\x\a.wav", r"..\a.wav"]
    )
    def test_a_path_outside_the_audio_folder_is_an_error(self, audio: Path, path: str) -> None:
        with pytest.raises(DatasetError, match=r"labels\.csv, line 3: .* is outside the audio folder"):
            self.listing(audio, f"path,label\nx/a.wav,slow\n{path},slow\n")

    def test_a_linked_file_outside_the_audio_folder_is_absent(self, audio: Path, tmp_path: Path) -> None:
        make_files(tmp_path, "d.wav")
        (audio / "d.wav").symlink_to(tmp_path / "d.wav")
        listing = self.listing(audio, "path,label\nx/a.wav,slow\nd.wav,slow\n")
        assert (ids(listing), listing.absent) == (["x/a.wav"], 1)

    def test_rows_without_audio_and_audio_without_rows_are_counted(self, audio: Path) -> None:
        listing = self.listing(audio, "path,label\nx/a.wav,slow\nx/z.wav,slow\ny/z.wav,fast\n")
        assert listing.absent == 2
        assert listing.task == Classification(("slow",))
        unlisted, classes, absent = listing.notes
        assert "2 audio files (not listed in " in unlisted
        assert classes.endswith(": fast")
        assert absent.endswith("labels.csv without audio: x/z.wav, y/z.wav")

    def test_of_many_rows_without_audio_the_first_are_named(self, audio: Path) -> None:
        rows = "".join(f"lost-{number}.wav,slow\n" for number in range(7))
        (*_, absent) = self.listing(audio, f"path,label\nx/a.wav,slow\n{rows}").notes
        assert absent.endswith(": lost-0.wav, lost-1.wav, lost-2.wav, lost-3.wav, lost-4.wav and 2 more")

    def test_a_table_of_other_files_is_an_error(self, audio: Path) -> None:
        with pytest.raises(DatasetError, match=r"none of the 2 tracks of .*, such as 'a\.wav'.*'path'"):
            self.listing(audio, "path,label\na.wav,slow\nb.wav,slow\n")

    def test_a_repeated_row_is_counted(self, audio: Path) -> None:
        listing = self.listing(audio, "path,label\nx/a.wav,slow\nx/a,slow\ny/c.wav,slow\nx/b.mp3,slow\n")
        assert len(listing.tracks) == 3
        (note,) = listing.notes
        assert note.startswith("skipped 1 row of ")

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ("x/a.wav,slow,N\ny/c.wav,slow,N\nx/a.wav,fast,N\n", "line 4: 'x/a.wav' is 'fast'.*on line 2"),
            (
                "x/a.wav,slow,N\nx/a.wav,slow,M\n",
                "line 3: .* 'M', .* 'N' on line 2",
            ),
        ],
        ids=["class", "group"],
    )
    def test_contradictory_rows_are_an_error_that_names_both(self, audio: Path, rows: str, message: str) -> None:
        with pytest.raises(DatasetError, match=message):
            self.listing(audio, "path,label,who\n" + rows, group="who")

    @pytest.mark.parametrize(("row", "column"), [("x/a.wav, ", "label"), (",slow", "path")], ids=["class", "path"])
    def test_an_empty_class_or_path_is_an_error_that_names_the_line(self, audio: Path, row: str, column: str) -> None:
        with pytest.raises(DatasetError, match=rf"labels\.csv, line 3: column '{column}' is empty"):
            self.listing(audio, f"path,label\nx/b.mp3,slow\n{row}\n")

    def test_a_class_missing_from_json_lines_is_an_error(self, audio: Path) -> None:
        with pytest.raises(DatasetError, match=r"l\.jsonl, line 2: column 'label' is empty"):
            self.listing(audio, '{"path": "x/a.wav", "label": "slow"}\n{"path": "y/c.wav"}\n', "l.jsonl")


class TestTableOfTargets:
    def listing(self, audio: Path, text: str, target: str) -> Listing:
        (audio / "labels.csv").write_text(text)
        return Folder(labels=audio / "labels.csv", target=target).listing(audio)

    def test_targets_are_in_the_given_order(self, audio: Path) -> None:
        listing = self.listing(audio, "path,v,a\nx/a.wav,1,-2.5\ny/c.wav,3e-1, 4 \n", "a+v")
        assert listing.task == Regression((Target("a", None, None), Target("v", None, None)))
        assert labels(listing) == {"x/a.wav": (-2.5, 1.0), "y/c.wav": (4.0, 0.3)}

    @pytest.mark.parametrize("value", ["loud", "0,5", "nan", "inf", "1.2.3"])
    def test_a_value_that_is_not_a_number_is_an_error_that_gives_file_line_and_value(
        self, audio: Path, value: str
    ) -> None:
        with pytest.raises(DatasetError, match=rf"labels\.csv, line 3: '{value}' in column 'v' "):
            self.listing(audio, f"path;v\nx/a.wav;1\ny/c.wav;{value}\n", "v")

    def test_an_empty_value_is_an_error(self, audio: Path) -> None:
        with pytest.raises(DatasetError, match="line 2: column 'v' is empty"):
            self.listing(audio, "path,v\nx/a.wav,\n", "v")

    @pytest.mark.parametrize("target", ["v+v", "v+", ""])
    def test_a_malformed_list_of_targets_is_an_error(self, audio: Path, target: str) -> None:
        with pytest.raises(DatasetError, match=f"target={re.escape(target)} "):
            self.listing(audio, "path,v\nx/a.wav,1\n", target)


class TestTableOfTags:
    def listing(self, audio: Path, text: str, tags: str = "tags", name: str = "labels.csv", **columns: str) -> Listing:
        (audio / name).write_text(text, encoding="utf-8")
        return Folder(labels=audio / name, tags=tags, **columns).listing(audio)

    @pytest.mark.parametrize(
        "cells",
        [
            ("rock;calm", "", "calm ; slow"),
            ("rock|calm", "", "calm | slow |"),
            ("rock, calm", "", "slow,calm"),
            ('["rock", "calm"]', "[]", '["calm", "slow"]'),
            ("rock;calm", "[]", '["calm", "slow"]'),
        ],
    )
    def test_a_cell_lists_the_tags_of_a_track(self, audio: Path, cells: tuple[str, str, str]) -> None:
        rows = "".join(f"{file}\t{cell}\n" for file, cell in zip(("x/a.wav", "x/b.mp3", "y/c.wav"), cells, strict=True))
        listing = self.listing(audio, f"path\ttags\n{rows}")
        assert listing.task == Tags(("calm", "rock", "slow"))
        assert labels(listing) == {
            "x/a.wav": frozenset({"rock", "calm"}),
            "x/b.mp3": frozenset(),
            "y/c.wav": frozenset({"calm", "slow"}),
        }

    def test_the_first_separator_that_occurs_in_the_column_separates_all_cells(self, audio: Path) -> None:
        listing = self.listing(audio, 'path,tags\nx/a.wav,"rock, hard; calm"\ny/c.wav,"drum, bass"\n')
        assert labels(listing) == {"x/a.wav": {"rock, hard", "calm"}, "y/c.wav": {"drum, bass"}}
        assert labels(self.listing(audio, "path,tags\nx/a.wav,new age\n")) == {"x/a.wav": {"new age"}}

    def test_json_lines_have_lists(self, audio: Path) -> None:
        rows = [{"path": "x/a.wav", "tags": ["rock", "calm"]}, {"path": "y/c.wav", "tags": []}]
        listing = self.listing(audio, "\n".join(map(json.dumps, rows)), name="l.jsonl")
        assert labels(listing) == {"x/a.wav": {"rock", "calm"}, "y/c.wav": frozenset()}

    @pytest.mark.parametrize("tags", ["calm+rock", "*"])
    def test_each_column_of_0_and_1_is_a_tag(self, audio: Path, tags: str) -> None:
        text = "artist,calm,path,rock\nNina,1,x/a.wav,0\nNina,0,x/b.mp3,0\nSun Ra,true,y/c.wav,1\n"
        listing = self.listing(audio, text, tags, group="artist")
        assert listing.task == Tags(("calm", "rock"))
        assert labels(listing) == {"x/a.wav": {"calm"}, "x/b.mp3": frozenset(), "y/c.wav": {"calm", "rock"}}
        assert [track.group for track in listing.tracks] == ["Nina", "Nina", "Sun Ra"]

    def test_a_single_column_of_0_and_1_is_a_tag(self, audio: Path) -> None:
        listing = self.listing(audio, "path,calm\nx/a.wav,1\ny/c.wav,0\n", "calm")
        assert listing.task == Tags(("calm",))
        assert labels(listing) == {"x/a.wav": {"calm"}, "y/c.wav": frozenset()}

    def test_a_column_with_a_plus_in_its_name_is_a_column(self, audio: Path) -> None:
        assert labels(self.listing(audio, "path,a+b\nx/a.wav,rock;calm\n", "a+b")) == {"x/a.wav": {"rock", "calm"}}

    def test_tags_without_audio_are_noted(self, audio: Path) -> None:
        listing = self.listing(audio, "path,tags\nx/a.wav,rock\nz/z.wav,rock;slow\n")
        assert listing.task == Tags(("rock",))
        assert "tags without audio: slow" in listing.notes

    @pytest.mark.parametrize(
        ("text", "tags", "message"),
        [
            ("path,calm,rock\nx/a.wav,1,0\ny/c.wav,2,0\n", "calm+rock", "line 3: '2' in column 'calm' is not 0 or 1"),
            ("path,calm,rock\nx/a.wav,1,\n", "*", "line 2: column 'rock' is empty"),
            ("path,calm\nx/a.wav,1\n", "calm+mood", "no column 'mood'"),
            ("path,calm\nx/a.wav,1\n", "calm+calm", r"tags=calm\+calm is not"),
            ("path\nx/a.wav\n", "*", "no columns left"),
            ("path\ttags\nx/a.wav\t['rock']\n", "tags", r"line 2: \"\['rock'\]\" in column 'tags' is not a JSON list"),
            ("path\ttags\nx/a.wav\t[1]\n", "tags", r"line 2: '\[1\]' in column 'tags' is not a JSON list"),
            ("path,tags,other\nx/a.wav,,1\ny/c.wav,;,1\n", "tags", "'tags' has no tag for any of the 2 tracks"),
        ],
    )
    def test_what_is_no_tag_is_an_error(self, audio: Path, text: str, tags: str, message: str) -> None:
        with pytest.raises(DatasetError, match=message):
            self.listing(audio, text, tags)


class TestParameters:
    @pytest.mark.parametrize("column", ["target", "tags", "group", "label", "path"])
    def test_a_column_without_a_table_is_an_error(self, column: str) -> None:
        with pytest.raises(DatasetError, match=f"{column}=a .* labels=FILE"):
            Folder(**{column: "a"})

    @pytest.mark.parametrize("two", [("label", "target"), ("label", "tags"), ("tags", "target")])
    def test_two_kinds_of_labels_are_an_error(self, two: tuple[str, str]) -> None:
        one, other = two
        with pytest.raises(DatasetError, match=rf"{one}=a .*{other}=b"):
            Folder(labels=Path("t.csv"), **{one: "a", other: "b"})

    def test_a_missing_table_is_an_error(self, audio: Path) -> None:
        with pytest.raises(DatasetError, match=r"no file 'none\.csv' in the current folder or in '.*audio'"):
            Folder(labels=Path("none.csv")).listing(audio)


class TestTables:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("t.csv", b"", "no rows"),
            ("t.csv", b"path,label\r\n", "no rows"),
            ("t.csv", b"path,label\na.wav,caf\xe9\n", "line 2: not UTF-8"),
            ("t.csv", b"path,label\na.wav,b,c\n", "line 2: 3 values for 2 columns"),
            ("t.csv", b"path,label\na.wav\n", "line 2: 1 value for 2 columns"),
            ("t.csv", b'path,label\na.wav,"b\nc.wav,d\n', "malformed quotation marks"),
            ("t.jsonl", b'{"path": "a.wav"}\n{"path": \n', "line 2: not JSON"),
            ("t.jsonl", b'["a.wav"]\n', "line 1: expected a JSON object"),
            ("t.json", b'[\n{"path": "a.wav"}\n]\n', "line 1: not JSON"),
            ("t.jsonl", b'{"path": {"file": "a.wav"}}\n', r"line 1: \{.*\} is not a string or a number"),
        ],
    )
    def test_a_malformed_table_is_an_error_that_names_the_line(
        self, tmp_path: Path, name: str, content: bytes, message: str
    ) -> None:
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(DatasetError, match=message) as caught:
            read_table(file)
        assert str(file) in str(caught.value)

    def test_a_folder_is_not_a_table(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="cannot read"):
            read_table(tmp_path)

    VALUES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1)

    @given(
        rows=st.lists(st.tuples(VALUES, VALUES), min_size=1),
        delimiter=st.sampled_from(",;\t"),
        line_end=st.sampled_from(["\n", "\r\n"]),
        quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    )
    def test_tables_written_by_a_spreadsheet_are_read(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        rows: list[tuple[str, str]],
        delimiter: str,
        line_end: str,
        quoting: int,
    ) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=quoting).writerows(
            [("path", "label"), *rows]
        )
        file = tmp_path_factory.mktemp("table") / "t.csv"
        file.write_bytes(text.getvalue().encode("utf-8-sig"))
        table = read_table(file)
        assert table.columns == ("path", "label")
        assert [(row.values["path"], row.values["label"]) for row in table.rows] == rows


@pytest.mark.skipif("MIREMBED_REAL_DATA" not in os.environ, reason="needs real data: set MIREMBED_REAL_DATA")
def test_the_real_emotify_table_is_read() -> None:
    table = read_table(Path(os.environ["MIREMBED_REAL_DATA"]) / "emotify_mini" / "data.csv")
    assert len(table.rows) == 8407
    assert table.columns[:4] == ("track id", "genre", "amazement", "solemnity")
    first = [row for row in table.rows if row.values["track id"] == "1"]
    assert len(first) == 48
    assert round(sum(row.number("amazement") for row in first) / 48, 3) == 0.146
