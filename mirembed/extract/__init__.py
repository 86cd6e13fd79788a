"""Many audio files → store: workers, failures, resume."""

from mirembed.extract.files import ExtractedFile, FileOutcome, Handling, extract_files
from mirembed.extract.max_failures import MaxFailures
from mirembed.extract.summary import Summary
from mirembed.extract.update import extract
from mirembed.listings import check_listing

__all__ = [
    "ExtractedFile",
    "FileOutcome",
    "Handling",
    "MaxFailures",
    "Summary",
    "check_listing",
    "extract",
    "extract_files",
]
