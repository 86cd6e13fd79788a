"""The training loop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mirembed.errors import EvaluationError, PluginError, SpecError
from mirembed.hookspecs import Similarity
from mirembed.registry import Registry, plugin_code
from mirembed.specs import Spec
from mirembed.store.frame_file import reading_ahead
from mirembed.training.checkpoints import restore_checkpoint, save_checkpoint
from mirembed.training.engine import make_engine
from mirembed.training.excerpts import EXCERPT_FRAMES, Normalization, epoch_batches
from mirembed.training.losses import classification_loss, regression_loss, similarity_loss
from mirembed.training.network import EmbeddingNetwork, seeded_head, seeded_network
from mirembed.training.optimizer import Adadelta

CHECKPOINT_EPOCHS = 10


@dataclass(frozen=True)
class TrainingData:
    """The training tracks of one model, and nothing of any other track.

    Attributes
    ----------
    frames : ndarray [total_frames, n_bands], dB
    starts, lengths : ndarray [n_tracks]
        Where the frames of each training track lie.
    label_vectors : ndarray [n_tracks, n_classes or n_targets], float32
        One-hot, or targets scaled to [0, 1].
    classes : ndarray [n_tracks], int64, or None
        Class indices; None for regression.
    normalization : Normalization
    """

    frames: NDArray[np.float32]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    label_vectors: NDArray[np.float32]
    classes: NDArray[np.int64] | None
    normalization: Normalization


@dataclass(frozen=True)
class Settings:
    """How long and from what seed to train.

    Attributes
    ----------
    epochs, batch : int
    seed : int
    fold : int
        With the seed it decides initial weights, order and excerpts; a model of all tracks has fold 0.
    device : str
    engine : {"numba", "torch"}
    checkpoint_every : int
        The network is handed to ``on_checkpoint`` after this many epochs, and so on; 0: never.
    """

    epochs: int = 400
    batch: int = 32
    seed: int = 0
    fold: int = 0
    device: str = "cpu"
    engine: str = "torch"
    checkpoint_every: int = 0


@dataclass(frozen=True)
class PluginSimilarity:
    """A similarity whose results are checked, and which is blamed for what goes wrong in it.

    Attributes
    ----------
    similarity : Similarity
    name : str
        What errors call it.
    """

    similarity: Similarity
    name: str

    @classmethod
    def create(cls, registry: Registry, spec: Spec, device: str = "cpu") -> PluginSimilarity:
        """Create the similarity that a spec names. It is a given: nothing of it is ever trained."""
        plugin = registry.find("similarity", spec.name)
        similarity = registry.create("similarity", spec)
        if isinstance(similarity, nn.Module):
            similarity.to(device).requires_grad_(False)
        return cls(similarity, f"{spec} of {plugin.distribution} {plugin.version}")

    def __call__(self, x: Tensor) -> Tensor:
        """Return the similarities ``[..., n, n]`` of all pairs of ``x [..., n, d]``."""
        return self._call(self.similarity, x)

    def cross(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the similarities ``[..., n, m]`` of ``x [..., n, d]`` with ``y [..., m, d]``."""
        own = getattr(self.similarity, "cross", None)
        if own is not None:
            return self._call(own, x, y)
        n = x.shape[-2]
        return self(torch.cat([x, y], dim=-2))[..., :n, n:]

    def backward(self) -> contextlib.AbstractContextManager[None]:
        """Blame this similarity for what goes wrong in a ``with`` block, which computes its gradient."""
        return plugin_code(f"the gradient of the similarity {self.name} fails")

    def _call(self, function: Callable[..., Tensor], *vectors: Tensor) -> Tensor:
        shapes = " and ".join(str(tuple(each.shape)) for each in vectors)
        with plugin_code(f"the similarity {self.name} fails for vectors {shapes}"):
            result = function(*vectors)
        expected = (*vectors[0].shape[:-1], vectors[-1].shape[-2])
        returned = f"the similarity {self.name} returned"
        if not isinstance(result, Tensor) or not result.is_floating_point():
            kind = result.dtype if isinstance(result, Tensor) else type(result).__name__
            raise PluginError(f"{returned} {kind} for vectors {shapes}; expected a tensor of floating-point numbers")
        if tuple(result.shape) != expected:
            raise PluginError(f"{returned} the shape {tuple(result.shape)} for vectors {shapes}; expected {expected}")
        if vectors[0].requires_grad and not result.requires_grad:
            raise PluginError(
                f"{returned} a tensor without gradient for vectors {shapes}; it has to be computed with torch alone, "
                "without detach() and numpy()"
            )
        # A GPU would have to be waited for; there the loss tells, after each epoch.
        if result.device.type == "cpu" and not result.isfinite().all() and all(v.isfinite().all() for v in vectors):
            raise PluginError(
                f"{returned} values that are not finite for finite vectors {shapes}; "
                "`mirembed plugins check` shows for which"
            )
        return result


@dataclass(frozen=True)
class SimilarityObjective:
    """|S(F) - S(A)|² over the pairs of a batch."""

    similarity: Similarity
    label_similarity: Similarity

    def __call__(self, embeddings: Tensor, label_vectors: Tensor, _classes: Tensor | None) -> Tensor:
        """Return the losses ``[...]`` of batches: ``embeddings [..., n, units]``, ``label_vectors [..., n, d]``."""
        return similarity_loss(self.similarity(embeddings), self.label_similarity(label_vectors))


@dataclass(frozen=True)
class BaselineObjective:
    """Cross-entropy or squared error of a linear output layer."""

    head: nn.Linear

    def __call__(self, embeddings: Tensor, label_vectors: Tensor, classes: Tensor | None) -> Tensor:
        """Return the loss of a batch; ``classes [batch]`` for classification, None for regression."""
        outputs = self.head(embeddings)  # [batch, n_classes or n_targets]
        if classes is None:
            return regression_loss(outputs, label_vectors)
        return classification_loss(outputs, classes)


@dataclass
class Trained:
    """A trained network.

    Attributes
    ----------
    network : EmbeddingNetwork
    head : torch.nn.Linear or None
        The output layer of the baselines.
    losses : list of float
        Mean loss a track, one an epoch.
    """

    network: EmbeddingNetwork
    head: nn.Linear | None
    losses: list[float] = field(default_factory=list)

    @classmethod
    def begin(cls, inputs: int, outputs: int | None, seed: tuple[int, int]) -> Trained:
        """Return what a training begins with.

        Parameters
        ----------
        inputs : int
            Values a frame.
        outputs : int or None
            Of the output layer, None where there is none.
        seed : (int, int)
            Seed and fold.
        """
        network = seeded_network(inputs, seed)
        return cls(network, None if outputs is None else seeded_head(network.units, outputs, seed))

    @property
    def modules(self) -> nn.ModuleDict:
        """All that is trained."""
        return nn.ModuleDict({"network": self.network} | ({} if self.head is None else {"head": self.head}))


class Training:
    """One network in training: everything but how its embeddings and gradients are computed.

    Parameters
    ----------
    data : TrainingData
    settings : Settings
    similarity, label_similarity : Similarity or None
        None for the baselines.
    checkpoint : pathlib.Path or None
        Written every tenth epoch, and read at the start when it is there.
    on_epoch : callable
        Told the number of epochs done.
    on_checkpoint : callable
        Given the number of epochs done and the network as it is then, before the last epoch; training goes on with
        that network, so it must be left as it is. After an interruption it may be called again for epochs that it
        has seen.

    Attributes
    ----------
    data, settings
        As given.
    objective : SimilarityObjective or BaselineObjective
    trained : Trained
        So far.
    optimizer : Adadelta
        Of the network's parameters, and after them those of the head.

    Raises
    ------
    SpecError
        If the batch holds no pair for a similarity to compare.
    StoreError
        If the checkpoint is damaged.
    """

    def __init__(
        self,
        data: TrainingData,
        settings: Settings,
        similarity: Similarity | None = None,
        label_similarity: Similarity | None = None,
        checkpoint: Path | None = None,
        on_epoch: Callable[[int], None] = lambda epoch: None,
        on_checkpoint: Callable[[int, Trained], None] = lambda epoch, trained: None,
    ) -> None:
        if similarity is not None and settings.batch < 2:
            raise SpecError(f"--batch {settings.batch}: to learn a similarity takes batches of at least 2 tracks")
        self.data, self.settings = data, settings
        self._similarity, self._checkpoint = similarity, checkpoint
        self._on_epoch, self._on_checkpoint = on_epoch, on_checkpoint
        self.objective: SimilarityObjective | BaselineObjective
        if similarity is None:
            self.trained = Trained.begin(2 * data.frames.shape[1], data.label_vectors.shape[1], self.seed)
            assert self.trained.head is not None  # noqa: S101
            self.objective = BaselineObjective(self.trained.head)
        else:
            self.trained = Trained.begin(2 * data.frames.shape[1], None, self.seed)
            self.objective = SimilarityObjective(similarity, label_similarity or similarity)
        self._modules = self.trained.modules.to(settings.device)
        self.optimizer = Adadelta(self._modules.parameters())
        if checkpoint is not None and checkpoint.exists():
            self.trained.losses += restore_checkpoint(checkpoint, self._modules, self.optimizer)
        self._label_vectors = torch.from_numpy(data.label_vectors).to(settings.device)
        self._classes = None if data.classes is None else torch.from_numpy(data.classes).to(settings.device)
        on_epoch(self.done)

    @property
    def seed(self) -> tuple[int, int]:
        """What initial weights, order and excerpts depend on."""
        return self.settings.seed, self.settings.fold

    @property
    def done(self) -> int:
        """The number of epochs done."""
        return len(self.trained.losses)

    def batches(self) -> Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Draw the next epoch; see `mirembed.training.excerpts.epoch_batches`."""
        return epoch_batches(self.seed, self.done, self.data.lengths, self.settings.batch)

    def loss(self, embeddings: Tensor, rows: NDArray[np.int64] | Tensor) -> Tensor:
        """Return the loss of a batch: ``embeddings [batch, units]`` of the training tracks ``rows [batch]``."""
        classes = None if self._classes is None else self._classes[rows]
        return self.objective(embeddings, self._label_vectors[rows], classes)

    def differentiating(self) -> contextlib.AbstractContextManager[None]:
        """Blame the similarity for what goes wrong in a ``with`` block, which computes a gradient of the loss."""
        if isinstance(self._similarity, PluginSimilarity):
            return self._similarity.backward()
        return contextlib.nullcontext()

    def end_epoch(self, loss: float) -> None:
        """Count an epoch, whose losses add up to ``loss``, and keep what has to be kept of it.

        Raises
        ------
        EvaluationError
            If the loss is no longer a number.
        """
        losses, settings = self.trained.losses, self.settings
        losses.append(loss / len(self.data.lengths))
        if not np.isfinite(losses[-1]):
            raise EvaluationError(
                f"the loss is {losses[-1]} after epoch {self.done}: the training of seed {settings.seed}, fold "
                f"{settings.fold} diverged; "
                + ("check its labels" if self._similarity is None else _suspicion(self._similarity))
            )
        if settings.checkpoint_every and self.done % settings.checkpoint_every == 0 and self.done < settings.epochs:
            self._on_checkpoint(self.done, self.trained)
        # After on_checkpoint: what a resumed training does not repeat is complete.
        if self._checkpoint is not None and self.done % CHECKPOINT_EPOCHS == 0:
            save_checkpoint(self._checkpoint, self._modules, self.optimizer, self.trained.losses)
        self._on_epoch(self.done)


def train(
    data: TrainingData,
    settings: Settings,
    similarity: Similarity | None = None,
    label_similarity: Similarity | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[int], None] = lambda epoch: None,
    on_checkpoint: Callable[[int, Trained], None] = lambda epoch, trained: None,
) -> Trained:
    """Train a network from scratch, or from where ``checkpoint`` left it.

    Parameters and errors are those of `Training`, and of `Training.end_epoch`.
    """
    training = Training(data, settings, similarity, label_similarity, checkpoint, on_epoch, on_checkpoint)
    engine = make_engine(settings.engine, training.trained.network)
    while training.done < settings.epochs:
        total = torch.zeros((), device=settings.device)
        for rows, offsets in _read_ahead(data, training.batches()):
            embeddings = engine.embed_excerpts(
                data.frames, data.starts[rows], data.lengths[rows], offsets, data.normalization
            )  # [batch, units]
            loss = training.loss(embeddings, rows)
            with training.differentiating():
                training.optimizer.step(loss)
            total += loss.detach()
        training.end_epoch(float(total))
    return training.trained


def _read_ahead(
    data: TrainingData, batches: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the batches; the frames of those to come are being read meanwhile."""
    ahead = list(batches)
    # An excerpt and, for its first difference, the frame before it.
    first = [data.starts[rows] + np.maximum(offsets - 1, 0) for rows, offsets in ahead]
    runs = [(each, np.full(len(each), EXCERPT_FRAMES + 1)) for each in first]
    for number in reading_ahead(data.frames, runs):
        yield ahead[number]


def _suspicion(similarity: Similarity) -> str:
    name = f"the similarity {similarity.name}" if isinstance(similarity, PluginSimilarity) else "the similarity"
    return f"the parameters of {name} may be to blame, or its gradient (`mirembed plugins check`)"
