"""The dataset ``folder``: your own audio files, labeled by class folders or by a table."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from pathlib import Path

import pytest

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


def notes_on_rows(listing: Listing) -> list[str]:
    """Return the notes without the one on the table itself, which is a file in the audio folder."""
    return [note for note in listing.notes if "(other endings)" not in note]


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

    def test_what_the_walk_skips_is_noted(self, audio: Path) -> None:
        make_files(audio, "x/._a.wav", ".cache/d.wav", "x/.trash/e.wav", "x/cover.jpg", "readme.txt")
        listing = Folder().listing(audio)
        assert ids(listing) == ["x/a.wav", "x/b.mp3", "y/c.wav"]
        hidden, others = listing.notes
        assert ".cache, x/._a.wav, x/.trash" in hidden
        assert "2 files" in others

    def test_folders_whose_names_differ_only_in_unicode_form_are_one_class(self, tmp_path: Path) -> None:
        make_files(tmp_path, unicodedata.normalize("NFC", "Forró/a.wav"), unicodedata.normalize("NFD", "Forró/b.wav"))
        assert labels(Folder().listing(tmp_path)) == {"Forró/a.wav": "Forró", "Forró/b.wav": "Forró"}

    def test_a_class_may_begin_with_dots(self, tmp_path: Path) -> None:
        make_files(tmp_path, "...And Justice for All/01.wav", ".hidden/01.wav")
        assert ids(Folder().listing(tmp_path)) == ["...And Justice for All/01.wav"]

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
        with pytest.raises(DatasetError, match=r"no audio files .*1 \.txt.*\.wav"):
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
        assert listing.absent == 0
        assert listing.labels_from == "column 'label'"
        (matched,) = notes_on_rows(listing)
        assert "3 of 3 rows" in matched

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
            "path|label\nx/a.wav|happy\ny/c.wav|sad, very\n",
            "sep=;\r\npath;label\r\nx/a.wav;happy\r\ny/c.wav;sad, very\r\n",
            "path;label;notes, such as, these\nx/a.wav;happy;a\ny/c.wav;sad, very;b\n",
            'path,label\rx/a.wav,happy\ry/c.wav,"sad, very"\r',
            "path,label,,\nx/a.wav,happy,,\n\n,,,\ny/c.wav,'sad; very,,\n".replace("'sad; very", '"sad, very"'),
        ],
        ids=[
            "comma",
            "semicolon",
            "tab",
            "space after comma",
            "byte order mark",
            "spaces",
            "nameless column",
            "bar",
            "line that states the delimiter",
            "commas in the header",
            "line ends of old Macs",
            "empty columns and rows",
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
        assert listing.groups_from == "column 'who'"

    def test_the_case_of_a_column_and_spaces_in_it_do_not_matter_if_it_is_the_only_one(self, audio: Path) -> None:
        text = "Path, My  Genre ,MOOD,mood\nx/a.wav,rock,calm,wild\n"
        assert labels(self.listing(audio, text, label="my genre")) == {"x/a.wav": "rock"}
        assert labels(self.listing(audio, text, label="mood")) == {"x/a.wav": "wild"}
        with pytest.raises(DatasetError, match="'Mood' may be any of 'MOOD', 'mood'"):
            self.listing(audio, text, label="Mood")

    def test_other_columns_that_may_be_the_class_are_noted_unless_one_is_given(self, audio: Path) -> None:
        text = "path,label,genre\nx/a.wav,Trax,house\n"
        (note,) = [note for note in self.listing(audio, text).notes if "label=genre" in note]
        assert "'label'" in note
        assert not [note for note in self.listing(audio, text, label="label").notes if "genre" in note]

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
        with pytest.raises(DatasetError, match=r"line 2: 'x/a' matches x/a\.mp3, x/a\.wav"):
            self.listing(audio, "path,label\nx/a,slow\n")

    @pytest.mark.parametrize(
        "path",
        [
            "./x//a.wav",
            r"x\a.wav",
            "y/../x/a.wav",
            "x/a",
            "../audio/x/a.wav",
            "audio/x/a.wav",
            r"D:\Old\Audio\x\a.wav",
            "X/A.WAV",
            " x / a.wav",
            "x/%61.wav",
            "\u200e\u202ax/a.wav",
            "x/a\u200b.wav",
        ],
    )
    def test_an_id_is_the_posix_path_of_the_file(self, audio: Path, path: str) -> None:
        assert ids(self.listing(audio, f"path,label\n{path},slow\n")) == ["x/a.wav"]

    def test_an_absolute_path_or_url_of_a_file_in_the_audio_folder_is_found(self, audio: Path) -> None:
        make_files(audio, "x/d e.wav")
        link = audio.with_name("link")
        link.symlink_to(audio)
        text = f"path,label\n{audio}/x/a.wav,slow\n{(audio / 'x' / 'd e.wav').as_uri()},fast\n{link}/y/c.wav,slow\n"
        (audio / "labels.csv").write_text(text, encoding="utf-8")
        listing = Folder(labels=audio / "labels.csv").listing(link)
        assert labels(listing) == {"x/a.wav": "slow", "x/d e.wav": "fast", "y/c.wav": "slow"}

    def test_a_name_that_is_not_utf8_is_found_as_predictions_write_it(self, audio: Path) -> None:
        make_files(audio, os.fsdecode(b"x/caf\xe9 \xcf.wav"))
        for before in ("", "audio/", f"{audio}/"):
            listing = self.listing(audio, f"path,label\n{before}x/caf\\xe9 \\xcf.wav,slow\n{before}y\\c.wav,fast\n")
            assert labels(listing) == {"x/caf\\xe9 \\xcf.wav": "slow", "y/c.wav": "fast"}

    def test_a_path_relative_to_the_current_folder_is_found(
        self, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        (tmp_path / "here" / "labels.csv").write_text("path,label\n../audio/x/a.wav,slow\n")
        assert ids(Folder(labels=Path("labels.csv")).listing(Path("../audio"))) == ["x/a.wav"]

    @pytest.mark.parametrize("before", ["Music/", r"C:\Users\me\Music" + "\\", "/media/usb/all/", "file:///C:/Music/"])
    def test_leading_folders_common_to_all_paths_are_left_out_if_this_gives_matches(
        self, audio: Path, before: str
    ) -> None:
        listing = self.listing(audio, f"path,label\n{before}x/a.wav,slow\n{before}y/c.wav,fast\n{before}z.wav,fast\n")
        assert labels(listing) == {"x/a.wav": "slow", "y/c.wav": "fast"}
        assert any("2 paths" in note for note in listing.notes)
        assert "matched 2 of 3 rows" in listing.notes[0]

    def test_folders_are_not_left_out_if_other_paths_match(self, audio: Path) -> None:
        make_files(audio, "a.wav")
        listing = self.listing(audio, "path,label\nx/a.wav,slow\nother/a.wav,fast\n")
        assert labels(listing) == {"x/a.wav": "slow"}

    @pytest.mark.parametrize("form", ["NFC", "NFD"])
    def test_names_match_in_either_form_of_unicode(self, tmp_path: Path, form: str) -> None:
        music = make_files(tmp_path / "music", unicodedata.normalize("NFD", "Für Elise/Ä.wav"), "Rós/ó.wav")
        text = "Pfad,Gefühl\nFür Elise/Ä.wav,süß\nRós/ó.wav,schön\n"
        (music / "labels.csv").write_text(unicodedata.normalize(form, text), encoding="utf-8")
        listing = Folder(labels=Path("labels.csv"), path="Pfad", label="Gefühl").listing(music)
        assert labels(listing) == {"Für Elise/Ä.wav": "süß", "Rós/ó.wav": "schön"}

    @pytest.mark.parametrize("path", ["..", "x/../../a.wav", "/x/a.wav", r"C:\x\a.wav", r"..\a.wav"])
    def test_a_path_outside_the_audio_folder_is_absent(self, audio: Path, path: str) -> None:
        listing = self.listing(audio, f"path,label\nx/a.wav,slow\n{path},slow\n")
        assert (ids(listing), listing.absent) == (["x/a.wav"], 1)
        assert "matched 1 of 2 rows" in listing.notes[0]

    def test_a_linked_file_outside_the_audio_folder_is_absent(self, audio: Path, tmp_path: Path) -> None:
        make_files(tmp_path, "d.wav")
        (audio / "d.wav").symlink_to(tmp_path / "d.wav")
        listing = self.listing(audio, "path,label\nx/a.wav,slow\nd.wav,slow\n")
        assert (ids(listing), listing.absent) == (["x/a.wav"], 1)

    def test_rows_without_audio_and_audio_without_rows_are_counted(self, audio: Path) -> None:
        listing = self.listing(audio, "path,label\nx/a.wav,slow\nx/z.wav,slow\ny/z.wav,fast\n")
        assert listing.absent == 2
        assert listing.task == Classification(("slow",))
        _, unlisted, classes, absent = notes_on_rows(listing)
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
        matched, note = notes_on_rows(listing)
        assert "4 of 4 rows" in matched
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

    def test_a_row_without_a_path_is_skipped_and_its_line_noted(self, audio: Path) -> None:
        listing = self.listing(audio, "path,label\nx/b.mp3,slow\n,slow\n")
        assert ids(listing) == ["x/b.mp3"]
        assert any("1 row" in note and note.endswith("line 3") for note in listing.notes)

    @pytest.mark.parametrize("cell", ["", "nan", "NA", "n/a", "None", "null", "-", "?", "#N/A"])
    def test_a_missing_class_or_group_leaves_a_track_without_one(self, audio: Path, cell: str) -> None:
        listing = self.listing(audio, f"path,label,who\nx/a.wav,slow,{cell}\ny/c.wav,{cell},Nina\n", group="who")
        assert labels(listing) == {"x/a.wav": "slow", "y/c.wav": None}
        assert [track.group for track in listing.tracks] == [None, "Nina"]
        assert listing.task == Classification(("slow",))
        for column in ("'label'", "'who'"):
            assert any(column in note and "1 missing value" in note for note in listing.notes)

    def test_the_words_for_missing_values_can_be_chosen(self, audio: Path) -> None:
        text = "path,label\nx/a.wav,None\nx/b.mp3,todo\ny/c.wav,\n"
        expected = {"x/a.wav": "None", "x/b.mp3": None, "y/c.wav": None}
        assert labels(self.listing(audio, text, missing="todo+tbd")) == expected
        assert labels(self.listing(audio, text, missing="empty")) == {**expected, "x/b.mp3": "todo"}

    def test_cells_left_out_at_the_end_of_a_row_are_missing(self, audio: Path) -> None:
        listing = self.listing(audio, "path,label,who\nx/a.wav,slow\ny/c.wav\n", group="who")
        assert labels(listing) == {"x/a.wav": "slow", "y/c.wav": None}
        assert any("2 rows" in note and "lines 2, 3" in note for note in listing.notes)

    def test_a_class_missing_from_json_lines_is_missing(self, audio: Path) -> None:
        text = '{"path": "x/a.wav", "label": "slow"}\n{"path": "y/c.wav"}\n{"path": "x/b.mp3", "label": null}\n'
        assert labels(self.listing(audio, text, "l.jsonl")) == {"x/a.wav": "slow", "x/b.mp3": None, "y/c.wav": None}

    def test_a_column_without_any_class_is_an_error(self, audio: Path) -> None:
        with pytest.raises(DatasetError, match=r"'label' of .* none of the 2 tracks"):
            self.listing(audio, "path,label\nx/a.wav,\ny/c.wav,nan\n")

    def test_classes_that_look_like_dates_are_noted(self, audio: Path) -> None:
        notes = self.listing(audio, "path,label\nx/a.wav,03. Apr\ny/c.wav,4/4\nx/b.mp3,Jan Garbarek\n").notes
        (note,) = [note for note in notes if "03. Apr" in note]
        assert note.endswith(": 03. Apr")

    def test_all_faults_of_a_table_are_listed_at_once(self, audio: Path) -> None:
        make_files(audio, "x/a.mp3")
        rows = ["x/a,slow,1", "y/c.wav,slow,2", "y/c.wav,fast,3", *(f"lost-{n}.wav,slow,x{n}" for n in range(7))]
        with pytest.raises(DatasetError) as caught:
            self.listing(audio, "\n".join(["path,label,height", *rows]), target="height")
        first, ambiguous, rest, numbers = str(caught.value).splitlines()
        assert "3 kinds" in first
        assert "line 2" in ambiguous
        assert "line 5: 'x0'" in numbers
        assert "'x4' and 2 more" in numbers
        assert "line 4" in rest
        assert "line 3" in rest


class TestTableOfTargets:
    def listing(self, audio: Path, text: str, target: str) -> Listing:
        (audio / "labels.csv").write_text(text)
        return Folder(labels=audio / "labels.csv", target=target).listing(audio)

    def test_targets_are_in_the_given_order(self, audio: Path) -> None:
        listing = self.listing(audio, "path,v,a\nx/a.wav,1,-2.5\ny/c.wav,3e-1, 4 \n", "a+v")
        assert listing.task == Regression((Target("a", None, None), Target("v", None, None)))
        assert labels(listing) == {"x/a.wav": (-2.5, 1.0), "y/c.wav": (4.0, 0.3)}

    @pytest.mark.parametrize(
        "value", ["loud", "inf", "1e999", "1_000", "50 %", "1,2,3", "03.May", "3-Mai", "2026-05-03"]
    )
    def test_a_value_that_is_not_a_number_is_an_error_that_gives_file_line_and_value(
        self, audio: Path, value: str
    ) -> None:
        with pytest.raises(DatasetError, match=rf"labels\.csv, line 3: '{value}': .*column 'v'") as caught:
            self.listing(audio, f"path;v\nx/a.wav;1\ny/c.wav;{value}\n", "v")
        assert ("date" in str(caught.value)) == (value[0] in "023")

    @pytest.mark.parametrize(
        ("cells", "expected"),
        [
            (("3,5", "0,25", "-7"), (3.5, 0.25, -7.0)),
            (("3,5", "1,234", "7"), (3.5, 1.234, 7.0)),
            (("1.234,5", "1.234", "0,5"), (1234.5, 1234.0, 0.5)),
            (("1,234.5", "1,234", "0.5"), (1234.5, 1234.0, 0.5)),
            (("1 234,5", "12 345 678", "1"), (1234.5, 12345678.0, 1.0)),
            (("1'234.5", "1\u202f234", "1"), (1234.5, 1234.0, 1.0)),
            (("1.234", "5.678", "\u22121e-3"), (1.234, 5.678, -0.001)),
            (("3.5", "3,5", "1"), (3.5, 3.5, 1.0)),
        ],
    )
    def test_commas_in_numbers_are_read_if_they_are_unambiguous(
        self, audio: Path, cells: tuple[str, ...], expected: tuple[float, ...]
    ) -> None:
        rows = "".join(f"{file};{cell}\n" for file, cell in zip(("x/a.wav", "x/b.mp3", "y/c.wav"), cells, strict=True))
        listing = self.listing(audio, f"path;v\n{rows}", "v")
        assert [track.label for track in listing.tracks] == [(value,) for value in expected]
        said = any("comma)" in note or "(thousands" in note for note in listing.notes)
        assert said == any("," in cell for cell in cells)

    @pytest.mark.parametrize("cells", [("1,234", "7"), ("1,234", "3.5"), ("1.234", "3,5"), ("1,234.5", "3,5", "1,234")])
    def test_an_ambiguous_number_is_an_error_that_gives_both_readings(
        self, audio: Path, cells: tuple[str, ...]
    ) -> None:
        files = ("x/a.wav", "x/b.mp3", "y/c.wav")
        rows = "".join(f"{file};{cell}\n" for file, cell in zip(files, cells, strict=False))
        with pytest.raises(DatasetError, match=r"line \d: '1[,.]234': may be 1.234 or 1234"):
            self.listing(audio, f"path;v\n{rows}", "v")

    @pytest.mark.parametrize("cell", ["", "nan", "NA"])
    def test_a_track_that_lacks_a_target_is_unlabeled(self, audio: Path, cell: str) -> None:
        listing = self.listing(audio, f"path,v,a\nx/a.wav,1,2\ny/c.wav,{cell},3\n", "v+a")
        assert labels(listing) == {"x/a.wav": (1.0, 2.0), "y/c.wav": None}
        assert any("'v'" in note and "1 missing value" in note for note in listing.notes)

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

    def test_a_missing_list_of_tags_is_not_an_empty_one(self, audio: Path) -> None:
        listing = self.listing(audio, "path,tags\nx/a.wav,rock;nan\nx/b.mp3,NA\ny/c.wav,\n")
        assert labels(listing) == {"x/a.wav": {"rock"}, "x/b.mp3": None, "y/c.wav": frozenset()}
        assert any("2 missing values" in note for note in listing.notes)

    def test_a_track_that_lacks_a_column_of_0_and_1_is_unlabeled(self, audio: Path) -> None:
        listing = self.listing(audio, "path,calm,rock\nx/a.wav,1.0,0.0\ny/c.wav,nan,1\n", "calm+rock")
        assert labels(listing) == {"x/a.wav": {"calm"}, "y/c.wav": None}
        assert labels(self.listing(audio, "path,calm\nx/a.wav,1\ny/c.wav,?\n", "calm")) == {
            "x/a.wav": {"calm"},
            "y/c.wav": None,
        }

    def test_tags_without_audio_are_noted(self, audio: Path) -> None:
        listing = self.listing(audio, "path,tags\nx/a.wav,rock\nz/z.wav,rock;slow\n")
        assert listing.task == Tags(("rock",))
        assert "tags without audio: slow" in listing.notes

    @pytest.mark.parametrize(
        ("text", "tags", "message"),
        [
            ("path,calm,rock\nx/a.wav,1,0\ny/c.wav,2,0\n", "calm+rock", "line 3: '2': not 0 or 1 .*'calm'"),
            ("path,calm,rock\nx/a.wav,1,\n", "*", "columns 'calm', 'rock' of .* none of the 1 track"),
            ("path,calm\nx/a.wav,1\n", "calm+mood", "no column 'mood'"),
            ("path,calm\nx/a.wav,1\n", "calm+calm", r"tags=calm\+calm is not"),
            ("path\nx/a.wav\n", "*", "no columns left"),
            ("path\ttags\nx/a.wav\t['rock']\n", "tags", r"line 2: \"\['rock'\]\": not a JSON list.*'tags'"),
            ("path\ttags\nx/a.wav\t[1]\n", "tags", r"line 2: '\[1\]': not a JSON list.*'tags'"),
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


@pytest.mark.skipif("MIREMBED_REAL_DATA" not in os.environ, reason="needs real data: set MIREMBED_REAL_DATA")
def test_the_real_emotify_table_is_read() -> None:
    table = read_table(Path(os.environ["MIREMBED_REAL_DATA"]) / "emotify_mini" / "data.csv")
    assert len(table.rows) == 8407
    assert table.columns[:4] == ("track id", "genre", "amazement", "solemnity")
    first = [row for row in table.rows if row.values["track id"] == "1"]
    assert len(first) == 48
    assert round(sum(row.number("amazement") for row in first) / 48, 3) == 0.146
