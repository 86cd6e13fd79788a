"""The training loop: losses, epochs, and the checkpoints from which an interrupted training resumes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mirembed.config import defaults
from mirembed.errors import EvaluationError, SpecError, StoreError
from mirembed.hookspecs import Classification, Similarity, Tags, Task
from mirembed.store.files import writing
from mirembed.store.frame_file import reading_ahead
from mirembed.training.engine import make_engine
from mirembed.training.excerpts import InputForm, Normalization, Stream, epoch_batches
from mirembed.training.network import PluginNetwork, seed_torch, seeded_head, to_device, torch_draws
from mirembed.training.network_checks import checked_module
from mirembed.training.optimizer import Optimizer, make_optimizer
from mirembed.training.similarity import PluginSimilarity

if TYPE_CHECKING:
    from mirembed.training.network import EmbeddingModule

CHECKPOINT_EPOCHS = 10


@dataclass(frozen=True)
class TrainingData:
    """The training tracks of one model, and nothing about any other track.

    Attributes
    ----------
    frames : ndarray [total_frames, values]
    starts, lengths : ndarray [n_tracks]
        First row and number of frames of each training track.
    task : Classification, Tags or Regression
        Decides the loss of the baselines ``nn`` and ``fl``.
    label_vectors : ndarray [n_tracks, n_classes, n_tags or n_targets], float32
        One-hot, 0 or 1 for each tag, or targets scaled to [0, 1].
    normalization : Normalization
    """

    frames: NDArray[np.float32]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    task: Task
    label_vectors: NDArray[np.float32]
    normalization: Normalization


@dataclass(frozen=True)
class TrainingSettings:
    """Length, optimizer, input, seed, device and engine of a training.

    Attributes
    ----------
    epochs, batch : int
    optimizer : str
        A spec; see `mirembed.training.optimizer`.
    form : InputForm
    seed, fold : int
        Together they determine initial weights, order, excerpts, and what the network draws in each epoch. A model of
        all tracks has fold 0.
    device : str
    engine : {"numba", "torch"}
    checkpoint_every : int
        ``on_checkpoint`` is called each time this many epochs are done; 0 means never.
    """

    epochs: int
    batch: int
    optimizer: str = defaults.OPTIMIZER
    form: InputForm = field(default_factory=InputForm)
    seed: int = 0
    fold: int = 0
    device: str = "cpu"
    engine: str = "torch"
    checkpoint_every: int = 0


@dataclass
class Trained:
    """A trained network.

    Attributes
    ----------
    network : EmbeddingModule
    head : torch.nn.Linear or None
        The output layer of the baselines ``nn`` and ``fl``.
    losses : list of float
        Mean loss per track in each epoch.
    """

    network: EmbeddingModule
    head: nn.Linear | None
    losses: list[float] = field(default_factory=list)


# All losses are sums over a batch, so that the optimizer treats all approaches alike; with means, Adadelta stalls.


def similarity_loss(similarity: Tensor, label_similarity: Tensor) -> Tensor:
    """Return ``|S(F) - S(A)|^2``, summed over all pairs of a batch, the diagonal included.

    Parameters
    ----------
    similarity : Tensor [n, n]
        S(F), of the embeddings of a batch.
    label_similarity : Tensor [n, n]
        S(A), of its label vectors.

    Returns
    -------
    Tensor []
    """
    return functional.mse_loss(similarity, label_similarity, reduction="none").sum(dim=(-2, -1))


def classification_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the cross-entropy of a batch: ``-sum_i log softmax(logits_i)[classes_i]``.

    Parameters
    ----------
    logits : Tensor [n, n_classes]
        Outputs before the softmax.
    classes : Tensor [n], int64
        Indices of the true classes.

    Returns
    -------
    Tensor []
    """
    return functional.cross_entropy(logits, classes, reduction="sum")


def tags_loss(logits: Tensor, tags: Tensor) -> Tensor:
    """Return the binary cross-entropy of a batch, summed over tracks and tags.

    It is ``-sum_ij (tags_ij log p_ij + (1 - tags_ij) log(1 - p_ij))`` where ``p`` is the sigmoid of the logits.

    Parameters
    ----------
    logits : Tensor [n, n_tags]
        Outputs before the sigmoid.
    tags : Tensor [n, n_tags]
        0 or 1.

    Returns
    -------
    Tensor []
    """
    return functional.binary_cross_entropy_with_logits(logits, tags, reduction="sum")


def regression_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the squared error of a batch: ``sum_i |outputs_i - targets_i|^2``.

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


def train(
    data: TrainingData,
    network: PluginNetwork,
    settings: TrainingSettings,
    similarity: Similarity | None = None,
    label_similarity: Similarity | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[int], None] = lambda epoch: None,
    on_checkpoint: Callable[[int, Trained], None] = lambda epoch, trained: None,
) -> Trained:
    """Train a network from scratch, or from where ``checkpoint`` left it.

    Parameters
    ----------
    data : TrainingData
    network : PluginNetwork
    settings : TrainingSettings
    similarity, label_similarity : Similarity or None
        None for the baselines. Without ``label_similarity``, labels are compared by ``similarity``.
    checkpoint : pathlib.Path or None
        Written every tenth epoch, and read at the start if it exists.
    on_epoch : callable
        Receives the number of epochs done.
    on_checkpoint : callable
        Receives the number of epochs done and the network at that point, before the last epoch. Training continues with
        that network, so it must not be changed. After an interruption it may be called again for the same epochs.

    Raises
    ------
    SpecError
        If a batch holds no pair for a similarity to compare, or the optimizer cannot be used.
    StoreError
        If the checkpoint is damaged.
    EvaluationError
        If the loss is no longer finite.
    PluginError
        If the network or the similarity fails.
    """
    if similarity is not None and settings.batch < 2:
        raise SpecError(f"--batch {settings.batch}: learning a similarity takes batches of at least 2 tracks")
    seed, device, form = (settings.seed, settings.fold), settings.device, settings.form
    inputs = form.inputs(data.frames.shape[1])
    module = checked_module(network, inputs, seed, form, settings.engine)
    head = seeded_head(module.units, data.label_vectors.shape[1], seed) if similarity is None else None
    trained = Trained(module, head)
    modules = nn.ModuleDict({"network": module} | ({} if head is None else {"head": head})).to(device)
    modules.train()
    optimizer = make_optimizer(settings.optimizer, (one for one in modules.parameters() if one.requires_grad))
    losses = trained.losses
    if checkpoint is not None and checkpoint.exists():
        losses += _restore_checkpoint(checkpoint, modules, optimizer)
    batch_loss = _batch_loss(data, head, similarity, label_similarity, device)
    differentiating = similarity.differentiating if isinstance(similarity, PluginSimilarity) else contextlib.nullcontext
    engine = make_engine(settings.engine, module, form, network.choice)
    on_epoch(len(losses))
    with torch_draws([*seed, Stream.STEPS], device):
        while len(losses) < settings.epochs:
            # Anew for each epoch, so that a resumed training draws what it would have drawn.
            seed_torch([*seed, Stream.STEPS, len(losses)], device)
            total = torch.zeros((), device=device)
            for rows, offsets in _read_ahead(data, settings, len(losses)):
                embeddings = engine.embed_excerpts(
                    data.frames, data.starts[rows], data.lengths[rows], offsets, data.normalization
                )  # [batch, units]
                loss = batch_loss(embeddings, rows)
                with differentiating():
                    optimizer.step(loss)
                total += loss.detach()
            losses.append(float(total) / len(data.lengths))
            done = len(losses)
            if not np.isfinite(losses[-1]):
                raise EvaluationError(
                    f"the loss is {losses[-1]} after epoch {done}: the training of seed {settings.seed}, fold "
                    f"{settings.fold} diverged; {_advice(settings, similarity)}"
                )
            if settings.checkpoint_every and done % settings.checkpoint_every == 0 and done < settings.epochs:
                on_checkpoint(done, trained)
            # After on_checkpoint, so that a resumed training has already done everything that it skips.
            if checkpoint is not None and done % CHECKPOINT_EPOCHS == 0:
                _save_checkpoint(checkpoint, modules, optimizer, losses)
            on_epoch(done)
    return trained


def _batch_loss(
    data: TrainingData,
    head: nn.Linear | None,
    similarity: Similarity | None,
    label_similarity: Similarity | None,
    device: str,
) -> Callable[[Tensor, NDArray[np.int64]], Tensor]:
    """Return the loss as a function of ``embeddings [batch, units]`` of the training tracks ``rows [batch]``."""
    label_vectors = to_device(data.label_vectors, device)
    classes = to_device(data.label_vectors.argmax(axis=1), device) if isinstance(data.task, Classification) else None

    def loss(embeddings: Tensor, rows: NDArray[np.int64]) -> Tensor:
        if similarity is not None:
            return similarity_loss(similarity(embeddings), (label_similarity or similarity)(label_vectors[rows]))
        assert head is not None  # noqa: S101
        outputs = head(embeddings)  # [batch, n_outputs]
        if classes is not None:
            return classification_loss(outputs, classes[rows])
        return (tags_loss if isinstance(data.task, Tags) else regression_loss)(outputs, label_vectors[rows])

    return loss


def _read_ahead(
    data: TrainingData, settings: TrainingSettings, epoch: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the batches of an epoch while the frames of the next ones are being read."""
    seed, excerpt = (settings.seed, settings.fold), settings.form.excerpt
    ahead = list(epoch_batches(seed, epoch, data.lengths, settings.batch, excerpt))
    # An excerpt and, for its first difference, the frame before it.
    first = [data.starts[rows] + np.maximum(offsets - 1, 0) for rows, offsets in ahead]
    counts = [np.minimum(excerpt, data.lengths[rows] - offsets) + 1 for rows, offsets in ahead]
    runs = list(zip(first, counts, strict=True))
    for number in reading_ahead(data.frames, runs):
        yield ahead[number]


def _advice(settings: TrainingSettings, similarity: Similarity | None) -> str:
    if settings.optimizer != defaults.OPTIMIZER:
        return f"try other parameters of --optimizer {settings.optimizer}"
    if similarity is None:
        return "check the labels"
    name = f"the similarity {similarity.name}" if isinstance(similarity, PluginSimilarity) else "the similarity"
    return f"check the parameters of {name}, and its gradient with `mirembed plugins check`"


def _save_checkpoint(path: Path, modules: nn.Module, optimizer: Optimizer, losses: list[float]) -> None:
    """Replace a checkpoint: weights, the optimizer's state and the losses so far in one file."""
    from safetensors.torch import save

    tensors = {f"module.{name}": tensor for name, tensor in modules.state_dict().items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer.state().items()}
    content = save(
        # Copies, because weights that two layers share would be refused.
        {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()},
        metadata={"losses": json.dumps(losses)},
    )
    with writing(path) as temporary:
        # Not by save_file, whose errors do not distinguish a full disk from other causes.
        temporary.write_bytes(content)


def _restore_checkpoint(path: Path, modules: nn.Module, optimizer: Optimizer) -> list[float]:
    """Load a checkpoint into modules and optimizer, and return the losses of its epochs.

    Raises
    ------
    StoreError
        If it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    parts: dict[str, dict[str, Tensor]] = {"module": {}, "optimizer": {}}
    try:
        with safe_open(path, framework="pt") as file:
            losses: list[float] = list(json.loads(file.metadata()["losses"]))
            for name in file.keys():  # noqa: SIM118 - not a mapping
                part, _, rest = name.partition(".")
                parts[part][rest] = file.get_tensor(name)
        modules.load_state_dict(parts["module"])
        optimizer.restore(parts["optimizer"])
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise StoreError(
            f"{path} is damaged ({type(error).__name__}: {reason}); delete it and run the same command again to repeat "
            "this training from the start"
        ) from error
    return losses
