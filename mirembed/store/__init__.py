"""The store: features, failures, embeddings, models and runs, as Parquet, JSON, safetensors and skops.

::

    mirembed-store/
      store.json                            version of the layout
      datasets/<dataset>/dataset.json       task, spectrogram parameters, provenance
      datasets/<dataset>/spectrograms/*.parquet
      datasets/<dataset>/failures.parquet
      datasets/<dataset>/embeddings/<model>.parquet
      datasets/<dataset>/cache/             rebuilt when missing
      models/<model>/
      runs/<run>/

Every file appears whole or not at all: it is written under a temporary name and then renamed.
"""

from mirembed.store.features import FeatureStore
from mirembed.store.root import Store
from mirembed.store.rows import DatasetInfo, Failure, FileFeatures, SpectrogramRow

__all__ = ["DatasetInfo", "Failure", "FeatureStore", "FileFeatures", "SpectrogramRow", "Store"]
