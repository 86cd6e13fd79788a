"""The losses of the approaches.

All are sums over a batch, so that the optimizer treats all approaches alike; with a mean, Adadelta stalls.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def similarity_loss(similarity: Tensor, label_similarity: Tensor) -> Tensor:
    """Return ``|S(F) - S(A)|^2``, the sum over all pairs of a batch, the diagonal included; one for each batch.

    Parameters
    ----------
    similarity : Tensor [..., n, n]
        S(F), of the embeddings of a batch.
    label_similarity : Tensor [..., n, n]
        S(A), of its label vectors.

    Returns
    -------
    Tensor [...]
    """
    return functional.mse_loss(similarity, label_similarity, reduction="none").sum(dim=(-2, -1))


def classification_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Return ``-sum_i log softmax(logits_i)[classes_i]``, the cross-entropy of a batch.

    Parameters
    ----------
    logits : Tensor [n, n_classes]
        Outputs of the network, before the softmax.
    classes : Tensor [n], int64
        Indices of the true classes.

    Returns
    -------
    Tensor []
    """
    return functional.cross_entropy(logits, classes, reduction="sum")


def regression_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return ``sum_i |outputs_i - targets_i|^2``, the squared error of a batch.

    Parameters
    ----------
    outputs : Tensor [n, n_targets]
    targets : Tensor [n, n_targets]
        Scaled to [0, 1].

    Returns
    -------
    Tensor []
    """
    return functional.mse_loss(outputs, targets, reduction="sum")
