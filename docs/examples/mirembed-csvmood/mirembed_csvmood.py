"""Music with mood ratings in a CSV file as a dataset for mirembed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from mirembed import Card, DatasetError, Listing, Regression, Target, Track, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable


class CsvMood:
    """Audio files beside a CSV file with the columns file and artist, and one for each mood.

    Parameters
    ----------
    table : str
        Name of the CSV file in the audio folder.
    low, high : float
        The range of the ratings.
    """

    card = Card(
        title="Your music with mood ratings",
        n_tracks=0,
        labels="one rating for each mood",
        license="that of your music",
        citation="",
        source="your own files",
        tree="annotations.csv\n*.wav, *.mp3, ... at any depth",
    )

    def __init__(self, table: str = "annotations.csv", low: float = 1.0, high: float = 9.0) -> None:
        if not low < high:
            raise ValueError(f"low is {low} and high is {high}: expected low below high")
        self.table = table
        self.low = low
        self.high = high

    def listing(self, audio: Path) -> Listing:
        """Return the rated tracks whose audio is there; raise `DatasetError` for a table that cannot be used."""
        table = audio / self.table
        if not table.is_file():
            raise DatasetError(f"there is no {table}; give the folder that holds it with --audio")
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            columns = rows.fieldnames or ()
            moods = [column for column in columns if column not in ("file", "artist")]
            if not {"file", "artist"} <= {*columns} or not moods:
                raise DatasetError(f"{table} has the columns {', '.join(columns)}; expected file, artist and moods")
            tracks = [self._track(audio, row, moods, f"{table}, line {rows.line_num}") for row in rows]
        present = [track for track in tracks if track.path.is_file()]
        if not present:
            raise DatasetError(f"none of the {len(tracks)} files of {table} are in {audio}")
        task = Regression(tuple(Target(mood, self.low, self.high) for mood in moods))
        return Listing(task, present, absent=len(tracks) - len(present))

    def _track(self, audio: Path, row: dict[str, str], moods: list[str], where: str) -> Track:
        try:
            ratings = tuple(float(row[mood]) for mood in moods)
        except (TypeError, ValueError):
            raise DatasetError(f"{where}: expected a number for each of {', '.join(moods)}") from None
        if not all(self.low <= rating <= self.high for rating in ratings):
            raise DatasetError(f"{where}: a rating is not from {self.low:g} to {self.high:g}; see csvmood:low=,high=")
        return Track(id=row["file"], path=audio / row["file"], label=ratings, group=row["artist"] or None)


@hookimpl
def mirembed_register_datasets(register: Callable[..., None]) -> None:
    """Register the dataset."""
    register("csvmood", CsvMood, summary="Your music with mood ratings in a CSV file")
