"""Each thing that is said of a table of labels is provoked, and compared with the bytes of the table.

A message of the modules below that no case provokes fails the last test.
"""

from __future__ import annotations

import functools
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from said_in_code import never_said, templates

import mirembed_datasets
from mirembed.errors import MirembedError
from mirembed_datasets.folder import Folder
from mirembed_datasets.table_files import read_text
from mirembed_datasets.tables import Row, find_table, read_rows, read_table, unique

PLUGIN = Path(mirembed_datasets.__file__).parent
NAMES = ("tables", "table_files", "table_numbers", "table_paths", "folder_table", "folder")
MODULES = [PLUGIN / f"{name}.py" for name in NAMES]
CARD = (
    "Your own files: one folder per class, or a table of labels",
    "your classes, tags or targets",
    "that of your music",
    "your disk",
    "<class>/<any name>.wav, .mp3, .flac ...\nor any audio files, and a table with their paths and labels",
)
CAUSES = ("looks like a date", "not a number", "not a finite number")
NOT_SAID = {*CARD, *CAUSES}
"""The card of the dataset, and what one module tells another, which says it in other words."""

AUDIO = ("a.wav", "b.wav", "rock/c.wav", "rock/d.wav", "rock/d.mp3")


@dataclass(frozen=True)
class Case:
    """A table, what is said of it, and whether that is so.

    Attributes
    ----------
    table : bytes
    said : str
        Pattern of what is said.
    so : callable
        Whether the groups of the pattern are true of the lines of the table, which begin at 1.
    given : dict
        Parameters of the dataset.
    name : str
        Of the table.
    """

    table: bytes
    said: str
    so: Callable[[list[str], Mapping[str, str]], bool] = lambda lines, said: True
    given: dict[str, str] = field(default_factory=dict)
    name: str = "t.csv"


def cells(lines: list[str], line: str, delimiter: str = ",") -> list[str]:
    return lines[int(line)].split(delimiter)


CASES = {
    # Bytes
    "a ZIP archive": Case(b"PK\3\4" + bytes(30), "is a spreadsheet or another ZIP archive, which is not supported"),
    "an Office document": Case(b"\xd0\xcf\x11\xe0" + bytes(30), "is a spreadsheet or another Office document"),
    "Parquet": Case(b"PAR1" + bytes(30), "is a Parquet file, which is not supported"),
    "gzip": Case(b"\x1f\x8b\x08" + bytes(30), "is compressed with gzip, which is not supported"),
    "UTF-16 with a fault": Case(
        b"\xff\xfe" + "path,label\na,x\n".encode("utf-16-le") + b"\0\xd8" + "b,y\n".encode("utf-16-le"),
        r"line (?P<line>\d+): not valid UTF-16-LE",
        lambda _, said: int(said["line"]) == 3,
    ),
    "Windows-1252": Case(
        b"path,label\ra,x\rb,caf\xe9\r",  # lines as on an old Mac
        r"is not UTF-8 \(line (?P<line>\d)\) and was read as Windows-1252, with words such as '(?P<word>\w+)'",
        lambda _, said: (said["line"], said["word"]) == ("3", "café"),
    ),
    "two encodings": Case(
        "path,label\na,é\n".encode() + b"b,\xe9\n",
        r"line (?P<line>\d): neither UTF-8 nor Windows-1252 throughout",
        lambda _, said: said["line"] == "3",
    ),
    # Rows
    "no rows": Case(b"path,label\n\n", "has no rows; expected a line that names the columns"),
    "no objects": Case(b"\n", "has no rows; expected one JSON object per line", name="t.jsonl"),
    "quotation marks": Case(
        b'path,label\n\n"a\n",x\nb,"y" y\n',
        r"malformed quotation marks in the row that begins on line (?P<line>\d)",
        lambda lines, said: lines[int(said["line"])] == 'b,"y" y',
    ),
    "never closed": Case(
        b'path,label\na,x\nb,"y\nc,z\n',
        r"malformed quotation marks in the row that begins on line (?P<line>\d)",
        lambda lines, said: lines[int(said["line"])].count('"') == 1,
    ),
    "too many values": Case(
        b"path,label\na,x\nb,1,5\nrock/c,y\n",
        r"line (?P<line>\d): (?P<n>\d) values: expected (?P<expected>\d) values; put quotation marks",
        lambda lines, said: (
            len(cells(lines, said["line"])) == int(said["n"]) and len(cells(lines, "1")) == int(said["expected"])
        ),
    ),
    "too few values": Case(
        b"path,label,artist\na,x\nb,y\n",
        r"(?P<n>\d) rows of \S+ shorter than the header: .*\(lines 2, 3\)",
        lambda lines, said: sum(line.count(",") < lines[1].count(",") for line in lines[2:]) == int(said["n"]),
    ),
    "a column twice": Case(b"path,label,label\na,x,y\n", "has two columns named 'label'"),
    "JSON in one": Case(
        b'[\n{"path": "a", "label": "x"}\n]\n',
        "is one JSON value on several lines; write one object per line",
        lambda lines, _: bool(json.loads("\n".join(lines[1:]))),
        name="t.json",
    ),
    "no JSON": Case(
        b'{"path": "a", "label": "x"}\n{"path" "b"}\n' + b"[" * 100_000 + b"\n",
        r"line (?P<line>\d): .*, line 3: nested too deeply: not JSON; expected one object per line",
        lambda lines, said: not lines[int(said["line"])].count(":"),
        name="t.jsonl",
    ),
    "a key twice": Case(
        b'{"path": "a", "label": "x", "label": "y"}\n',
        r"line 1: '(?P<key>\w+)': a key that an object has twice",
        lambda lines, said: lines[1].count(f'"{said["key"]}"') == 2,
        name="t.jsonl",
    ),
    "no object": Case(
        b'{"path": "a", "label": {"x": 1}}\n["b", "y"]\n',
        "line 1: .*line 2: .*: expected a JSON object such as {'path': …, 'label': …}, with strings and numbers",
        name="t.jsonl",
    ),
    "rows that disagree": Case(
        b"path,label,artist\na,x,A\nb,x,A\na,x,B\n",
        r"line (?P<later>\d): 'a.wav' is 'x' in group 'B', but 'x' in group 'A' on line (?P<earlier>\d): remove one",
        lambda lines, said: (lines[int(said["later"])], lines[int(said["earlier"])]) == ("a,x,B", "a,x,A"),
        given={"group": "artist"},
    ),
    # Columns
    "no such column": Case(
        b"path,label\na,x\n", r"has no column 'genre'; its columns are 'path', 'label'", given={"label": "genre"}
    ),
    "either column": Case(
        b"path,Genre,GENRE\na,x,y\n", "column 'genre' may be any of 'Genre', 'GENRE'", given={"label": "genre"}
    ),
    "no path": Case(
        b"song,label\na,x\n", "has no column named path, .* or id; give path=COLUMN, one of 'song', 'label'"
    ),
    "no class": Case(b"path,one,two\na,x,y\n", "has no column named label, .*; give label=COLUMN, or target=COLUMN"),
    "chosen": Case(b"path,label,genre\na,x,y\n", "chose column 'label' by its name; .* give label=genre"),
    "not distinct": Case(b"path,v\na,1\n", r"target=v\+v is not a list of distinct columns", given={"target": "v+v"}),
    "no tags left": Case(b"path\na\n", "no columns left for tags; it has 'path'", given={"tags": "*"}),
    # Cells
    "missing": Case(
        b"path,label,artist\na,x,NA\nb,nan,A\nrock/c,nan,\n",
        r"column 'label': (?P<n>\d) missing values \(2 'nan'\); if these are names, give missing=empty",
        lambda lines, said: sum(",nan," in line for line in lines) == int(said["n"]),
        given={"group": "artist"},
    ),
    "no group": Case(
        b"path,label,artist\na,x,NA\nb,y,A\nrock/c,x,\n",
        r"(?P<n>\d) tracks without a group: no value in column 'artist'",
        lambda lines, said: sum(cells(lines, str(n))[2] in ("NA", "") for n in (2, 3, 4)) == int(said["n"]),
        given={"group": "artist"},
    ),
    "numbers": Case(
        b"path;v\na;1.234,5\nb;0,25\nrock/c;7\n",
        r"read '1.234,5' as 1234.5 \(thousands separator\), and others like it\n"
        r"read '0,25' as 0.25 \(decimal comma\), and others like it",
        given={"target": "v"},
    ),
    "no numbers": Case(
        b"path,v\na,loud\nb,1e999\nrock/c,03.May\n",
        r"has 3 kinds of faults\n  line 2: 'loud': expected a number, such as 0.5.*"
        r"line 3: '1e999': expected a finite number, such as 0.5.*"
        "line 4: '03.May': expected a number; a spreadsheet may have turned it into a date",
        given={"target": "v"},
    ),
    "either number": Case(
        b"path;v\na;1,234\nb;7\n",
        r"line 2: '1,234': may be 1.234 or 1234; write it without separators of thousands",
        given={"target": "v"},
    ),
    "flags": Case(b"path,calm\na,1\nb,2\n", "line 3: '2': not 0 or 1", given={"tags": "*"}),
    "lists": Case(
        b'path|mood\na|["x", "y"]\nb|["z"\nrock/c|' + b"[" * 100_000 + b"\n",
        r'line 3: .*: not a JSON list of strings, such as \["a", "b"\]',
        given={"tags": "mood"},
    ),
    "only missing": Case(
        b"path,label\na,\nb,\n",
        r"column 'label' of \S+ labels none of the (?P<n>\d) tracks with audio",
        lambda *_: True,
    ),
    "no tag": Case(
        b"path,mood\na,\nb,\n", "column 'mood' has no tag for any of the 2 tracks with audio", given={"tags": "mood"}
    ),
    "dates": Case(b"path,label\na,03.May\nb,x\n", "classes that look like dates, .*: 03.May"),
    "classes without audio": Case(b"path,label\na,x\nlost,y\n", "classes without audio: y\n"),
    # Paths
    "several files": Case(
        b"path,label\na,x\nrock/d,y\n",
        r"line 3: 'rock/d' matches rock/d.mp3, rock/d.wav: give the complete path",
    ),
    "none of the tracks": Case(
        b"path,label\nx,1\ny,2\n",
        r"contains none of the (?P<n>\d) tracks of \S+, such as 'x'; column 'path' must contain paths relative",
        lambda lines, said: len([line for line in lines[2:] if line]) == int(said["n"]),
    ),
    "no path in a row": Case(b"path,label\na,x\n,y\n,z\n", r"skipped 2 rows of \S+ \(no path\): lines 3, 4"),
    "the same row": Case(b"path,label\na,x\na.wav,x\nb,y\n", r"skipped 1 row of \S+ \(repeated\)"),
    "not listed": Case(
        b"path,label\na,x\nb,y\nlost,x\n",
        r"matched 2 of 3 rows of \S+ to audio files\n(.*\n)*skipped (?P<n>\d) audio files \(not listed in \S+\)\n"
        r"(.*\n)*listed in \S+ without audio: lost",
        lambda _, said: int(said["n"]) == len(AUDIO) - 2,
    ),
    "spelling": Case(
        b"path,label\nA.WAV,x\nb,y\n",
        "matched 1 path by ignoring case, spaces and character codes, such as 'A.WAV' to 'a.wav'",
    ),
    "another computer": Case(
        b"path,label\nC:\\music\\a.wav,x\nD:\\music\\b.wav,y\n",
        r"matched 2 paths by ignoring the folders before the audio folder, such as 'C:\\\\music\\\\a.wav' to 'a.wav'",
    ),
    "a common part": Case(
        b"path,label\n/x/y/a.wav,x\n/x/y/b.wav,y\n",
        "matched 2 paths without '/x/y/', with which all paths begin, such as '/x/y/a.wav' to 'a.wav'",
    ),
}


@functools.cache
def answer(name: str) -> tuple[list[str], str]:
    """Return the lines of a table, from 1 on, and what is said: the failure, or the notes."""
    case = CASES[name]
    lines = ["", *case.table.decode("utf-8", "replace").splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        audio = Path(folder) / "music"
        for file in AUDIO:
            (audio / file).parent.mkdir(parents=True, exist_ok=True)
            (audio / file).write_bytes(b"x")
        table = Path(folder) / case.name
        table.write_bytes(case.table)
        try:
            return lines, "\n".join(Folder(labels=table, **case.given).listing(audio).notes) + "\n"
        except MirembedError as error:
            return lines, str(error)


@pytest.mark.parametrize("name", CASES)
def test_what_is_said_of_a_table_is_true_of_its_bytes(name):
    lines, message = answer(name)
    found = re.search(CASES[name].said, message, re.DOTALL)
    assert found, message
    assert CASES[name].so(lines, found.groupdict()), message


def test_a_number_out_of_range_is_said_as_it_is_written():
    row = Row(Path("t.csv"), 2, {"v": "10.0000001"})
    assert "10.0000001 in column" in failure(lambda: row.number_within("v", 0, 10))


def failure(call: Callable[[], object]) -> str:
    with pytest.raises(MirembedError) as caught:
        call()
    return str(caught.value)


def by_function(folder: Path) -> list[str]:
    """Return what is said of tables that built-in datasets read, of paths, and of parameters."""
    file = folder / "t.csv"
    row = Row(file, 2, {"v": "", "w": "x", "n": "1.5", "l": "[1"})
    said = [
        failure(lambda: row.text("v")),
        failure(lambda: row.number("w")),
        failure(lambda: row.number_within("n", 2, 3)),
        failure(lambda: row.whole_number_within("n", 1, 2)),
        failure(lambda: row.yes_or_no("w")),
        failure(lambda: row.strings("l", ",")),
        failure(lambda: find_table("u.csv", folder, source="download it")),
        failure(lambda: read_text(folder)),
    ]
    file.write_text("a,b\n1,2\n1,3\n4\n", encoding="utf-8")
    said += [
        failure(lambda: unique(read_table(file), lambda row: (row.values["a"], row.values["b"]))),
        failure(lambda: list(read_rows(file))),
    ]
    assert "line 4: 1 value for 2 columns" in said[-1]
    file.write_bytes(b"a,b\n\xe9,2\n")
    said.append(failure(lambda: read_text(file)))
    empty, loose = folder / "empty", folder / "loose"
    (empty / "sub").mkdir(parents=True)
    loose.mkdir()
    (loose / "a.wav").write_bytes(b"x")
    said += [
        failure(lambda: Folder().listing(empty)),
        failure(lambda: Folder().listing(loose)),
        failure(lambda: Folder(labels=Path("nowhere.csv")).listing(loose)),
        failure(lambda: Folder(group="artist")),
        failure(lambda: Folder(labels=file, label="a", tags="b")),
    ]
    for name in ("rock/b.wav", "jazz/c.wav"):
        (loose / name).parent.mkdir()
        (loose / name).write_bytes(b"x")
    (loose / "pop").mkdir()
    listing = Folder().listing(loose)
    return [*said, *listing.notes, listing.labels_from]


def test_every_message_about_a_table_is_provoked(tmp_path):
    said = [answer(name)[1] for name in CASES] + by_function(tmp_path)
    never = never_said(set(templates(MODULES)) - NOT_SAID, said)
    assert not never
