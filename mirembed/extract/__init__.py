"""Many audio files → store: workers, failures, resume."""

from mirembed.extract.files import ExtractedFile, FileOutcome, Handling, extract_files
from mirembed.extract.max_failures import MaxFailures
from mirembed.extract.summary import Summary
from mirembed.extract.update import extract

__all__ = [
    "ExtractedFile",
    "FileOutcome",
    "Handling",
    "MaxFailures",
    "Summary",
    "extract",
    "extract_files",
]
