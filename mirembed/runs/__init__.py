"""The only reader and writer of a run on disk."""
