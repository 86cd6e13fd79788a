"""The losses of the approaches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mirembed.training.loop import classification_loss, regression_loss, similarity_loss


def test_the_similarity_loss_is_summed_over_both_triangles_and_the_diagonal():
    similarity = torch.tensor([[1.0, 0.5], [0.5, 0.25]])
    label_similarity = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    # 0 + 0.5^2 + 0.5^2 + 0.75^2
    assert similarity_loss(similarity, label_similarity).item() == 1.0625


def test_the_similarity_loss_is_the_squared_frobenius_norm():
    similarity, label_similarity = np.random.default_rng(0).normal(size=(2, 32, 32))
    loss = similarity_loss(torch.tensor(similarity), torch.tensor(label_similarity))
    assert loss.item() == pytest.approx(np.linalg.norm(similarity - label_similarity) ** 2, rel=1e-12)


def test_the_classification_loss_of_equal_logits_is_log_n_classes_per_track():
    loss = classification_loss(torch.zeros(5, 4), torch.tensor([0, 1, 2, 3, 0]))
    assert loss.item() == pytest.approx(5 * np.log(4))


def test_the_classification_loss_is_the_summed_negative_log_of_the_softmax():
    rng = np.random.default_rng(0)
    logits, classes = rng.normal(size=(6, 3)), rng.integers(0, 3, size=6)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    loss = classification_loss(torch.tensor(logits), torch.tensor(classes))
    assert loss.item() == pytest.approx(-np.log(softmax[np.arange(6), classes]).sum(), rel=1e-12)


def test_the_regression_loss_is_summed_over_batch_and_targets():
    outputs = torch.tensor([[0.0, 1.0], [0.5, 0.5]])
    targets = torch.tensor([[0.0, 0.5], [1.0, 0.0]])
    assert regression_loss(outputs, targets).item() == 0.75


@pytest.mark.parametrize("loss", [similarity_loss, regression_loss])
def test_different_shapes_are_warned_about(loss):
    with pytest.warns(UserWarning, match="different to the input size"):
        loss(torch.zeros(3, 3), torch.zeros(3, 1))


@pytest.mark.parametrize(
    ("loss", "label"),
    [
        (similarity_loss, torch.eye(3, dtype=torch.float64)),
        (classification_loss, torch.tensor([0, 2, 1])),
        (regression_loss, torch.eye(3, dtype=torch.float64)),
    ],
)
def test_gradients_equal_finite_differences(loss, label):
    outputs = torch.linspace(-1, 1, 9, dtype=torch.float64).reshape(3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda value: loss(value, label), outputs)
