"""The naive program: the same experiment as a reader of the paper would first write it with torch.

It has a Dataset that cuts random excerpts, a DataLoader, two `torch.nn.GRU`, `torch.optim.Adadelta` and scikit-learn's
SVMs; it trains one fold after the other and embeds full tracks in batches of 32. Torch chooses its number of threads.
It uses nothing of mirembed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.multioutput import MultiOutputRegressor
from sklearn.svm import SVC, SVR
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

EXCERPT_FRAMES = 100
EMBED_BATCH = 32

Batch = tuple[Tensor, Tensor, Tensor]


def features(tracks: Sequence[NDArray[np.float32]], training: NDArray[np.int64]) -> list[Tensor]:
    """Return each track ``[n_frames, bands]`` normalized, with its first differences: ``[n_frames, 2 * bands]``."""
    known = np.concatenate([tracks[row] for row in training])
    mean, std = known.mean(axis=0), known.std(axis=0)
    normalized = [(track - mean) / std for track in tracks]
    return [torch.from_numpy(np.hstack([track, np.diff(track, axis=0, prepend=track[:1])])) for track in normalized]


class Excerpts(Dataset[tuple[Tensor, Tensor]]):
    """A random excerpt of each track, drawn anew at each access, with the track's label."""

    def __init__(self, tracks: Sequence[Tensor], labels: Tensor) -> None:
        self.tracks, self.labels = tracks, labels

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        track = self.tracks[index]
        offset = int(torch.randint(max(len(track) - EXCERPT_FRAMES, 0) + 1, ()))
        return track[offset : offset + EXCERPT_FRAMES], self.labels[index]


def collate(items: Sequence[tuple[Tensor, Tensor]]) -> Batch:
    """Return frames ``[batch, time, inputs]``, numbers of frames ``[batch]``, and labels ``[batch, ...]``."""
    frames = [excerpt for excerpt, _ in items]
    return (
        pad_sequence(frames, batch_first=True),
        torch.tensor([len(excerpt) for excerpt in frames]),
        torch.stack([label for _, label in items]),
    )


class Network(nn.Module):
    """Two recurrent layers and the mean over time."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.first = nn.GRU(inputs, 100, batch_first=True)
        self.second = nn.GRU(100, 50, batch_first=True)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Embed ``frames [batch, time, inputs]``: ``[batch, 50]``."""
        outputs, _ = self.second(self.first(frames)[0])
        inside = torch.arange(frames.shape[1]) < lengths[:, None]  # [batch, time]
        embeddings: Tensor = (outputs * inside[:, :, None]).sum(dim=1) / lengths[:, None]
        return embeddings


def rbf(x: Tensor) -> Tensor:
    """Return the similarities ``[n, n]`` of all pairs of ``x [n, d]``."""
    return torch.exp(-(x[:, None] - x).square().sum(dim=2))


class SimilarityLoss(nn.Module):
    """``|S(F) - S(A)|²`` with the RBF: the approach ``rbf-sl``."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch."""
        return (rbf(embeddings) - rbf(labels)).square().sum()


class BaselineLoss(nn.Module):
    """Cross-entropy or squared error of a linear output layer: the approach ``fl``."""

    def __init__(self, outputs: int, classification: bool) -> None:
        super().__init__()
        self.head = nn.Linear(50, outputs)
        self.classification = classification

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch."""
        outputs = self.head(embeddings)
        if self.classification:
            return functional.cross_entropy(outputs, labels, reduction="sum")
        return functional.mse_loss(outputs, labels, reduction="sum")


def train(
    tracks: Sequence[Tensor],
    labels: Tensor,
    *,
    approach: str,
    classification: bool,
    epochs: int,
    batch: int,
    seed: int,
) -> Iterator[tuple[Network, float]]:
    """Train a network; yield it after every epoch, with the mean loss per track.

    Parameters
    ----------
    tracks : sequence of Tensor [n_frames, inputs]
    labels : Tensor [n_tracks, n_classes or n_targets]
        One-hot, or scaled to [0, 1].
    approach : {"rbf-sl", "fl"}
    """
    torch.manual_seed(seed)
    network = Network(tracks[0].shape[1])
    criterion = SimilarityLoss() if approach == "rbf-sl" else BaselineLoss(labels.shape[1], classification)
    optimizer = torch.optim.Adadelta([*network.parameters(), *criterion.parameters()], lr=1.0, rho=0.95, eps=1e-6)
    loader = DataLoader(Excerpts(tracks, labels), batch_size=batch, shuffle=True, collate_fn=collate)
    for _ in range(epochs):
        total = 0.0
        for frames, lengths, labels_of_batch in loader:
            optimizer.zero_grad()
            loss = criterion(network(frames, lengths), labels_of_batch)
            loss.backward()
            optimizer.step()
            total += loss.item()
        yield network, total / len(tracks)


@torch.inference_mode()
def embed(network: Network, tracks: Sequence[Tensor]) -> NDArray[np.float32]:
    """Embed full tracks, 32 at a time: ndarray ``[n_tracks, 50]``."""
    embeddings = []
    for first in range(0, len(tracks), EMBED_BATCH):
        part = tracks[first : first + EMBED_BATCH]
        lengths = torch.tensor([len(track) for track in part])
        embeddings.append(network(pad_sequence(list(part), batch_first=True), lengths))
    return np.asarray(torch.cat(embeddings).numpy())


def predict(
    network: Network,
    tracks: Sequence[Tensor],
    labels: NDArray[Any],
    training: NDArray[np.int64],
    test: NDArray[np.int64],
) -> NDArray[Any]:
    """Fit an SVM to the embeddings of the training tracks and predict the labels of the test tracks."""
    embeddings = embed(network, tracks)
    learner = SVC() if labels.ndim == 1 else MultiOutputRegressor(SVR())
    learner.fit(embeddings[training], labels[training])
    return np.asarray(learner.predict(embeddings[test]))


def score(labels: NDArray[Any], predictions: NDArray[Any]) -> float:
    """Return the accuracy, or Pearson's r averaged over the targets."""
    if labels.ndim == 1:
        return float(np.mean(labels == predictions))
    pairs = zip(labels.T, predictions.T, strict=True)
    return float(np.mean([np.corrcoef(truth, predicted)[0, 1] for truth, predicted in pairs]))
