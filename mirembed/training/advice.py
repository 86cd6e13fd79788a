"""What to tell the user of a training that diverged, or that learned little."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mirembed.config import defaults
from mirembed.hookspecs import Similarity
from mirembed.specs import Spec
from mirembed.training.similarity import PluginSimilarity

if TYPE_CHECKING:
    from torch import Tensor

STEADY = "--optimizer adam:lr=0.001,clip=10"
"""Trains where the default optimizer does not; docs/method.md has the measurements."""

PATIENCE = 50
"""A training of fewer epochs may need only more of them."""

RECENT = 5
"""Epochs whose losses are averaged: those of single epochs vary with the excerpts."""


def after_divergence(optimizer: str, similarity: Similarity | None) -> str:
    """Return what to try after the loss has become infinite or NaN."""
    if optimizer != defaults.OPTIMIZER:
        clip = "" if "clip" in Spec.parse(optimizer).parameters else ", or limit the gradient with clip=10"
        return f"try a lower lr in --optimizer {optimizer}{clip}"
    if isinstance(similarity, PluginSimilarity):
        checks = f"check the gradient of the similarity {similarity.name} with `mirembed plugins check`"
    else:
        checks = "check the labels" if similarity is None else "check the gradient of the similarity"
    return f"try {STEADY}, which limits gradients and steps; if that does not help, {checks}"


def unlearned(losses: Sequence[float], constant: float, optimizer: str) -> str | None:
    """Return a note if the loss is no better than that of a network to which all pairs of tracks are equally similar.

    Parameters
    ----------
    losses : sequence of float
        Of all epochs.
    constant : float
        The `constant_loss`, per track.
    optimizer : str

    Returns
    -------
    str or None
        None if it is.
    """
    loss = float(np.mean(losses[-RECENT:]))
    if loss < constant:
        return None
    remedy = f"try {STEADY}, or" if optimizer == defaults.OPTIMIZER else "try another optimizer, or"
    return (
        f"the network has learned little: after {len(losses)} epochs, its loss of {loss:.3g} is no lower than "
        f"{constant:.3g}, the loss if all pairs of tracks were equally similar; {remedy} more epochs"
    )


def constant_loss(batches: Iterable[Tensor]) -> float:
    """Return the least loss of similarities that are right for a track and itself, and equal for all other pairs.

    Parameters
    ----------
    batches : iterable of Tensor [n, n]
        Similarities of the labels in each batch.

    Returns
    -------
    float
        The sum over all batches.
    """
    pairs = [batch.detach().cpu().double().numpy() for batch in batches]
    apart = np.concatenate([one[~np.eye(len(one), dtype=bool)] for one in pairs])
    return float(np.square(apart - apart.mean()).sum()) if len(apart) else 0.0
