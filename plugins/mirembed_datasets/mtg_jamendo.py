"""MTG-Jamendo: tags that musicians gave to their music, about 55,000 full tracks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mirembed import Card, DatasetError, Listing, Split, Tags, Track, counted
from mirembed_datasets.copies import files_by_class, find_copy, notes_on_copy
from mirembed_datasets.tables import find_table, read_rows, read_text

N_SPLITS = 5
FILES = {"all": "", "genre": "_genre", "instrument": "_instrument", "moodtheme": "_moodtheme", "top50": "_top50tags"}
"""What the names of a subset's files have after ``autotagging``."""
N_TRACKS = {"all": 55_609, "genre": 55_215, "instrument": 25_135, "moodtheme": 18_486, "top50": 54_380}
"""In ``autotagging.tsv`` and the files of the subsets; the splits leave out a few."""
COLUMNS = ("TRACK_ID", "ARTIST_ID", "PATH", "TAGS")
FILE = re.compile(r"(?P<number>[0-9]+)(\.low)?")
SITE = "https://github.com/MTG/mtg-jamendo-dataset"
PLACES = (".", "data", "mtg-jamendo-dataset/data")
"""Where the tables may be, from the audio folder and the two above."""

CARD = Card(
    title="MTG-Jamendo",
    n_tracks=N_TRACKS["all"],
    labels="tags: 95 genres, 41 instruments, 59 moods and themes; all of them, one kind, or the top 50",
    license="Creative Commons, a license for each track; CC BY-NC-SA 4.0 for the tags",
    citation="""\
@inproceedings{bogdanov2019,
  author    = {Bogdanov, Dmitry and Won, Minz and Tovstogan, Philip and Porter, Alastair and Serra, Xavier},
  title     = {The {MTG-Jamendo} dataset for automatic music tagging},
  booktitle = {Machine Learning for Music Discovery Workshop, International Conference on Machine Learning},
  year      = {2019},
  url       = {http://hdl.handle.net/10230/42015}
}""",
    source=f"{SITE}: clone it for the tables in data/, and download the audio with its scripts/download/download.py",
    tree="""\
data/
  autotagging.tsv autotagging_genre.tsv ...
  splits/split-0/autotagging-train.tsv autotagging-validation.tsv autotagging-test.tsv ... split-4/
raw_30s/audio/ or audio-low/
  00/ ... 99/
    7400.mp3 or 7400.low.mp3 ...""",
    folds=(*(f"split-{number}" for number in range(N_SPLITS)), "splits"),
)


class MtgJamendo:
    """Full tracks from Jamendo, with the genres, instruments, moods and themes that their authors gave.

    Ids are those of the tables, such as ``track_0003524``; tags are spelled as there, such as ``genre---rock``. The
    group is the artist. The official folds ``split-0`` to ``split-4`` have one split each, in which no artist is on
    both sides, and ``splits`` has all five. The validation part belongs to the training part, and is its inner fold for
    ``--select``. The authors left out tags that are too rare for their splits: with the tables of the splits, so does
    mirembed.

    Parameters
    ----------
    subset : {"all", "genre", "instrument", "moodtheme", "top50"}
        Which tags.
    data : pathlib.Path, optional
        The folder ``data`` of the dataset's repository, from the current folder. Default: the audio folder, a folder
        ``data`` or ``mtg-jamendo-dataset/data`` in it, or the same in the two folders above.

    References
    ----------
    D. Bogdanov, M. Won, P. Tovstogan, A. Porter and X. Serra, "The MTG-Jamendo dataset for automatic music tagging",
    Machine Learning for Music Discovery Workshop, ICML 2019.
    """

    card = CARD

    def __init__(
        self,
        *,
        subset: Literal["all", "genre", "instrument", "moodtheme", "top50"] = "all",
        data: Path | None = None,
    ) -> None:
        self.subset = subset
        self.data = data

    def listing(self, audio: Path) -> Listing:
        """List the tracks of a complete or partial copy.

        Parameters
        ----------
        audio : pathlib.Path
            The folder with the folders 00 to 99, one of its two parents, or one of these folders.

        Raises
        ------
        DatasetError
            There is no copy, or more than one, or a table is missing or malformed.
        """
        copy = find_copy(
            audio,
            lambda home: _candidates(files_by_class(home, {f"{number:02d}": f"{number:02d}" for number in range(100)})),
            original=".mp3",
            title="MTG-Jamendo",
            expected="the folders 00 to 99 of its archives, with files such as 00/7400.mp3 or 00/7400.low.mp3",
            parts={f"{number:02d}" for number in range(100)},
        )
        table = self._table(copy.home)
        splits = _read_splits(table)
        rows = splits[0].rows if splits else _read(table)
        listed = [track for track in sorted(rows) if rows[track].path in copy.files]
        if not listed:
            n_tracks = counted(len(copy.files), "track")
            raise DatasetError(
                f"{table} has none of the {n_tracks} in {str(copy.home)!r}; check that both are MTG-Jamendo's"
            )
        tracks = [Track(one, copy.files[rows[one].path], rows[one].tags, rows[one].artist) for one in listed]
        notes = notes_on_copy(audio, copy.home, len(tracks), len(rows))
        if not splits:
            notes.append(f"no official folds: there is no {_split_file(table, 0, 'train')}")
        if unknown := len(copy.files) - len(tracks):
            notes.append(f"skipped {counted(unknown, 'track')} (not in this subset)")
        tags = Tags(tuple(sorted({tag for row in rows.values() for tag in row.tags})))
        return Listing(tags, tracks, len(rows) - len(tracks), [*notes, *copy.skipped], _schemes(splits))

    def _table(self, home: Path) -> Path:
        """Return the table of the subset."""
        name = f"autotagging{FILES[self.subset]}.tsv"
        source = f"clone {SITE}, or give its folder data with data=DIR"
        if self.data is None:
            return find_table(name, home, folders=PLACES, source=source)
        if not (self.data / name).is_file():
            raise DatasetError(f"data={self.data}: there is no {name} in it; {source}")
        return self.data / name


@dataclass(frozen=True)
class _Row:
    """What a table says about a track; the path is without its suffix."""

    path: str
    artist: str
    tags: frozenset[str]


@dataclass(frozen=True)
class _Split:
    """The tracks of a split: its three parts, and the rows of all of them."""

    parts: Mapping[str, frozenset[str]]
    rows: Mapping[str, _Row]


def _candidates(files: Iterable[tuple[str, Path]]) -> list[tuple[str | None, Path]]:
    """Return files with their paths from the folder of the copy, without their suffixes; None for other files."""
    found = [(folder, file, FILE.fullmatch(file.stem)) for folder, file in files]
    return [(f"{folder}/{match['number']}" if match else None, file) for folder, file, match in found]


def _read(file: Path) -> dict[str, _Row]:
    """Read a table, in which all columns after the fifth are tags."""
    text = read_text(file).strip()
    if "\n" not in text and text.endswith(".tsv"):  # a link, in a clone on a system without links
        file = file.with_name(text)
    rows: dict[str, _Row] = {}
    for row in read_rows(file, open_ended=True):
        if missing := [name for name in COLUMNS if name not in row.values]:
            raise DatasetError(f"{file} has no column {missing[0]!r}; get it from {SITE}")
        track = row.text("TRACK_ID")
        if track in rows:
            raise DatasetError(f"{row}: {track} is listed twice; get {file.name} from {SITE}")
        path, artist = row.text("PATH").removesuffix(".mp3"), row.text("ARTIST_ID")
        rows[track] = _Row(path, artist, frozenset(row.text("TAGS").split("\t")))
    if not rows:
        raise DatasetError(f"{file} has no rows; get it from {SITE}")
    return rows


def _split_file(table: Path, number: int, part: str) -> Path:
    return table.parent / "splits" / f"split-{number}" / f"{table.stem}-{part}.tsv"


def _read_splits(table: Path) -> list[_Split]:
    """Read the official splits of a subset; none if there is no table of the first."""
    splits = []
    for number in range(N_SPLITS):
        files = {part: _split_file(table, number, part) for part in ("train", "validation", "test")}
        if not files["train"].is_file():
            break
        rows = {part: _read(file) for part, file in files.items()}
        together = {track: row for part in rows.values() for track, row in part.items()}
        if len(together) < sum(map(len, rows.values())):
            raise DatasetError(f"{files['train'].parent} has a track in two of its parts; get its tables from {SITE}")
        splits.append(_Split({part: frozenset(found) for part, found in rows.items()}, together))
    return splits


def _schemes(splits: Iterable[_Split]) -> dict[str, list[Split]]:
    found = [
        Split(one.parts["train"] | one.parts["validation"], one.parts["test"], (one.parts["validation"],))
        for one in splits
    ]
    return {f"split-{number}": [split] for number, split in enumerate(found)} | ({"splits": found} if found else {})
