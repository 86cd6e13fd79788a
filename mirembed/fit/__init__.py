"""Fit models on all tracks of a dataset, and keep them and their embeddings in the store.

``whole_dataset`` fits; ``unfinished`` reserves the models' names, and knows again what an interrupted fit has done.
"""

from mirembed.fit.dataset import FittedModel, check_trainable, fit, transfer

__all__ = ["FittedModel", "check_trainable", "fit", "transfer"]
