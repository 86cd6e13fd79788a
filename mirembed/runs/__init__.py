"""Runs on disk: the only package that reads, writes and scores them."""

from mirembed.runs.folder import PartFolder, RunFolder
from mirembed.runs.record import RunRecord, open_run, read_run
from mirembed.runs.scores import Scores, score
from mirembed.runs.summary import find_run
from mirembed.runs.tables import Predictions

__all__ = ["PartFolder", "Predictions", "RunFolder", "RunRecord", "Scores", "find_run", "open_run", "read_run", "score"]
