"""Tables of labels in every form in which spreadsheets and programs write them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirembed import DatasetError
from mirembed.store.exports import disarmed, write_csv
from mirembed_datasets.tables import read_rows, read_table

LABELS = "path,label\nx/a.wav,Bebop\ny/c.wav,Forró\n"
ROWS = [("x/a.wav", "Bebop"), ("y/c.wav", "Forró")]


def rows(file: Path) -> list[tuple[str, ...]]:
    return [tuple(row.values.values()) for row in read_table(file).rows]


def written(tmp_path: Path, content: bytes, name: str = "t.csv") -> Path:
    file = tmp_path / name
    file.write_bytes(content)
    return file


class TestEncodings:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
    def test_every_encoding_of_unicode_is_read(self, tmp_path: Path, encoding: str) -> None:
        table = read_table(written(tmp_path, LABELS.encode(encoding)))
        assert [tuple(row.values.values()) for row in table.rows] == ROWS
        assert not table.notes

    def test_a_column_is_found_without_regard_to_invisible_characters(self, tmp_path: Path) -> None:
        table = read_table(written(tmp_path, ("\ufeff\ufeff" + LABELS).encode()))
        assert table.rows[0].values[table.column("path")] == "x/a.wav"

    def test_windows_1252_is_read_and_noted_with_a_word_to_judge_it_by(self, tmp_path: Path) -> None:
        file = written(tmp_path, LABELS.encode("cp1252"))
        assert rows(file) == ROWS
        (note,) = read_table(file).notes
        assert "line 3" in note
        assert "'Forró'" in note

    @pytest.mark.parametrize(
        ("content", "line"),
        [
            (LABELS.encode() + "z.wav,Rós\n".encode("cp1252"), 4),
            (b"path,label\nx/a.wav,\x81\x8d\n", 2),
            (b"\xff\xfe" + LABELS.encode("utf-16-le")[:-1] + b"\xd8", 3),
        ],
        ids=["two encodings", "not Windows-1252", "half a character"],
    )
    def test_ambiguous_values_are_refused_with_their_lines(self, tmp_path: Path, content: bytes, line: int) -> None:
        with pytest.raises(DatasetError, match=rf"t\.csv, line {line}: .*save the table as UTF-8"):
            read_table(written(tmp_path, content))

    def test_a_published_table_is_not_guessed_at(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="line 3"):
            list(read_rows(written(tmp_path, LABELS.encode("cp1252"))))

    @pytest.mark.parametrize("start", [b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"PAR1"])
    def test_a_spreadsheet_or_parquet_file_is_refused(self, tmp_path: Path, start: bytes) -> None:
        with pytest.raises(DatasetError, match=r"labels\.xlsx is .*CSV UTF-8"):
            read_table(written(tmp_path, start + bytes(100), "labels.xlsx"))


class TestCsv:
    def test_a_cell_may_be_long_and_have_lines(self, tmp_path: Path) -> None:
        lyrics = "la \nla " * 50_000
        file = written(tmp_path, f'path,lyrics,label\na.wav,"{lyrics}",x\nb.wav,,y,z\n'.encode())
        limit = csv.field_size_limit()
        with pytest.raises(DatasetError, match="line 50003: 4 values"):
            read_table(file)
        assert csv.field_size_limit() == limit
        file.write_text(f'path,lyrics,label\na.wav,"{lyrics}",x\n')
        assert rows(file) == [("a.wav", lyrics.strip(), "x")]

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("t.csv", b"", "no rows"),
            ("t.csv", b"path,label\r\n", "no rows"),
            ("t.csv", b"sep=;\n", "no rows"),
            ("t.csv", b"path,label\na.wav,b,c\n", "line 2: 3 values: expected 2 values"),
            ("t.csv", b"path,v,a\na.wav,3,5,4,2\nb.wav,1,2\nc.wav,3,5,4\n", "line 2: 5 values, line 4: 4 values"),
            ("t.csv", b'path,label\nb.wav,c\na.wav,"b\nc.wav,d\n', "quotation marks in the row that begins on line 3"),
            ("t.csv", b'path,label\na.wav,"b" c\n', "quotation marks in the row that begins on line 2"),
            ("t.csv", b"path,label,label\na.wav,b,c\n", "two columns named 'label'"),
            ("t.jsonl", b'{"path": "a.wav"}\n{"path": \n', "line 2: .*not JSON"),
            ("t.jsonl", b'["a.wav"]\n', "line 1: .*expected a JSON object"),
            ("t.json", b'[\n{"path": "a.wav"}\n]\n', "one JSON value on several lines"),
            ("t.jsonl", b'{"path": {"file": "a.wav"}}\n', r"line 1: \{.*\}: expected"),
        ],
    )
    def test_a_malformed_table_is_an_error_that_names_the_lines(
        self, tmp_path: Path, name: str, content: bytes, message: str
    ) -> None:
        file = written(tmp_path, content, name)
        with pytest.raises(DatasetError, match=message) as caught:
            read_table(file)
        assert str(file) in str(caught.value)

    def test_a_folder_is_not_a_table(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="cannot read"):
            read_table(tmp_path)

    VALUES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1)

    @given(
        rows=st.lists(st.tuples(VALUES, VALUES), min_size=1),
        delimiter=st.sampled_from(",;\t|"),
        line_end=st.sampled_from(["\n", "\r\n"]),
        quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
        encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
        states_delimiter=st.booleans(),
    )
    def test_tables_written_by_a_spreadsheet_are_read(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        rows: list[tuple[str, str]],
        delimiter: str,
        line_end: str,
        quoting: int,
        encoding: str,
        states_delimiter: bool,
    ) -> None:
        text = io.StringIO(newline="")
        if states_delimiter:
            text.write(f"sep={delimiter}{line_end}")
        csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=quoting).writerows(
            [("path", "label"), *rows]
        )
        file = tmp_path_factory.mktemp("table") / "t.csv"
        file.write_bytes(text.getvalue().encode(encoding))
        table = read_table(file)
        assert table.columns == ("path", "label")
        expected = [(path, label) for path, label in rows]
        found = [(row.values["path"], row.values["label"]) for row in table.rows]
        # An apostrophe before a formula is one that keeps it from being one.
        assert [(disarmed(path), disarmed(label)) for path, label in found if "'" not in path + label] == [
            (disarmed(path), disarmed(label)) for path, label in expected if "'" not in path + label
        ]


class TestFormulas:
    @pytest.mark.parametrize("text", ["=1+1", "+49", "-1.wav", "@SUM(A1)", "'=1", "''@x"])
    def test_a_text_that_would_be_a_formula_is_written_with_an_apostrophe(self, tmp_path: Path, text: str) -> None:
        write_csv(tmp_path / "t.csv", ["path", text], [[text, -0.5]])
        with (tmp_path / "t.csv").open(newline="") as file:
            assert list(csv.reader(file)) == [["path", f"'{text}"], [f"'{text}", "-0.5"]]
        assert rows(tmp_path / "t.csv") == [(text, "-0.5")]
        assert read_table(tmp_path / "t.csv").columns == ("path", text)

    @pytest.mark.parametrize("text", ["'t Hooft", "a=b", "1-2", ""])
    def test_other_texts_stay_as_they_are(self, text: str) -> None:
        assert disarmed(text) == text

    @given(
        cells=st.lists(st.text(st.characters(exclude_categories=("Cs",))).map(str.strip).filter(bool), min_size=1),
        bom=st.booleans(),
    )
    def test_written_fields_are_read_back(
        self, tmp_path_factory: pytest.TempPathFactory, cells: list[str], bom: bool
    ) -> None:
        file = tmp_path_factory.mktemp("table") / "t.csv"
        write_csv(file, ["path", "label"], [[cell, number] for number, cell in enumerate(cells)], bom=bom)
        assert file.read_bytes().startswith(b"\xef\xbb\xbf") == bom
        assert rows(file) == [(cell, str(number)) for number, cell in enumerate(cells)]
