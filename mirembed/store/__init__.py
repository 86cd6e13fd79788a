"""The store: features, datasets, embeddings, models and runs, as Parquet, JSON, safetensors and skops.

::

    mirembed-store/
      store.json                            version of the layout
      features/<name-digest>/               one row per recording: its hash, facts about it, and its frames
        _features.json                      plugin, parameters, values, hop
        *.parquet
      datasets/<dataset>/                   one row per track: id, recording, labels, group, file
        dataset.json                        task, plugin, folder of the audio
        tracks.parquet
        file_tags.parquet                   what the files say about themselves
        failures.parquet
      embeddings/<model>/*.parquet          one row per recording: its embedding
      models/<model>/
      runs/<run>/
      cache/                                rebuilt when missing

Every file appears whole or not at all: it is written under a temporary name and then renamed.
"""

from mirembed.store.datasets import DatasetStore
from mirembed.store.embeddings import EmbeddingRows, RecordingFacts, StoredEmbeddings
from mirembed.store.features import FeatureShards
from mirembed.store.root import Store
from mirembed.store.rows import DatasetInfo, Failure, RecordingRow, StoredFileTags, StoredTrack

__all__ = [
    "DatasetInfo",
    "DatasetStore",
    "EmbeddingRows",
    "Failure",
    "FeatureShards",
    "RecordingFacts",
    "RecordingRow",
    "Store",
    "StoredEmbeddings",
    "StoredFileTags",
    "StoredTrack",
]
