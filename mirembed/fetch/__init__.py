"""Getting a dataset: download, check, unpack."""

from mirembed.fetch.download import Patience
from mirembed.fetch.fetching import Fetched, Wishes, fetch

__all__ = ["Fetched", "Patience", "Wishes", "fetch"]
