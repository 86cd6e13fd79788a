"""Runs on disk: the only package that reads, writes and scores them."""
