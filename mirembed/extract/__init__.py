"""Compute the features of a dataset's audio files and put them into the store: workers, failures, resuming."""

from mirembed.extract.extraction import Features, MaxFailures
from mirembed.extract.failures import Failures, failures_of
from mirembed.extract.file_features import ExtractedFile, ExtractOptions, FileToExtract, extract_files
from mirembed.extract.summary import Summary
from mirembed.extract.update import Refreshed, extract, features_to_extract, missing_files, refresh

__all__ = [
    "ExtractOptions",
    "ExtractedFile",
    "Failures",
    "Features",
    "FileToExtract",
    "MaxFailures",
    "Refreshed",
    "Summary",
    "extract",
    "extract_files",
    "failures_of",
    "features_to_extract",
    "missing_files",
    "refresh",
]
