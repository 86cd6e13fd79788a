"""Fit models on all tracks of a dataset, and keep them and the embeddings of the tracks in the store."""

from mirembed.fit.dataset import FittedModel, fit, transfer

__all__ = ["FittedModel", "fit", "transfer"]
