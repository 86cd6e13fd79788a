"""Compute the features of a dataset's audio files and put them into the store: workers, failures, resuming."""

from mirembed.extract.extraction import MaxFailures
from mirembed.extract.file_features import ExtractedFile, ExtractOptions, FileToExtract, extract_files
from mirembed.extract.update import extract, features_to_extract

__all__ = [
    "ExtractOptions",
    "ExtractedFile",
    "FileToExtract",
    "MaxFailures",
    "extract",
    "extract_files",
    "features_to_extract",
]
