"""The training loop: losses, epochs, and the checkpoints from which an interrupted training resumes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
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
from mirembed.training.advice import PATIENCE, after_divergence, constant_loss, unlearned
from mirembed.training.engine import make_engine
from mirembed.training.excerpts import InputForm, Normalization, Stream, epoch_batches
from mirembed.training.network import PluginNetwork, seeded_head, to_device, torch_draws
from mirembed.training.optimizer import Optimizer, make_optimizer
from mirembed.training.similarity import PluginSimilarity

if TYPE_CHECKING:
    from mirembed.training.network import EmbeddingModule

CHECKPOINT_EPOCHS = 10

_PAIRS = 2**18
"""Pairs of labels that are compared at a time: many batches at once cost less than each alone."""


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
        With ``member`` they determine initial weights, order, excerpts, and what the network draws in each epoch. A
        model of all tracks has fold 0.
    device : str
    engine : {"numba", "torch"}
    checkpoint_every : int
        Epochs between two checkpoints; 0 means that there are none.
    member : int
        Which network of an ensemble it is; each has weights, excerpts and draws of its own.
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
    member: int = 0

    @property
    def entropy(self) -> tuple[int, ...]:
        """What everything random depends on: seed and fold, and the member of an ensemble.

        >>> TrainingSettings(epochs=1, batch=2, seed=7, fold=3).entropy
        (7, 3)
        """
        of_member = () if self.member == 0 else (int(Stream.MEMBER), self.member)
        return (self.seed, self.fold, *of_member)


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
    note : str or None
        A note for the user if a fully trained network has learned little; see `mirembed.training.advice`.
    """

    network: EmbeddingModule
    head: nn.Linear | None
    losses: list[float] = field(default_factory=list)
    note: str | None = None


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


class Training:
    """A network that is being trained: from scratch, or from where ``checkpoint`` left it.

    Parameters
    ----------
    data : TrainingData
    network : PluginNetwork
        One that has passed `mirembed.training.network_checks.check_with_engine`.
    settings : TrainingSettings
    similarity, label_similarity : Similarity or None
        None for the baselines. Without ``label_similarity``, labels are compared by ``similarity``.
    checkpoint : pathlib.Path or None
        Where `save` writes, and what is read now if it exists.

    Attributes
    ----------
    trained : Trained
        The network so far. Training continues with it, so it must not be changed.

    Raises
    ------
    SpecError
        If a batch holds no pair for a similarity to compare, or the optimizer cannot be used.
    StoreError
        If the checkpoint is damaged.
    PluginError
        If the network fails a check.
    """

    def __init__(
        self,
        data: TrainingData,
        network: PluginNetwork,
        settings: TrainingSettings,
        similarity: Similarity | None = None,
        label_similarity: Similarity | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        if similarity is not None and settings.batch < 2:
            raise SpecError(f"--batch {settings.batch}: learning a similarity takes batches of at least 2 tracks")
        self._data, self._settings, self._checkpoint = data, settings, checkpoint
        self._similarity = similarity
        seed, form = settings.entropy, settings.form
        module = network.seeded(form.inputs(data.frames.shape[1]), seed)
        head = seeded_head(module.units, data.label_vectors.shape[1], seed) if similarity is None else None
        self.trained = Trained(module, head)
        parts = {"network": module} | ({} if head is None else {"head": head})
        self._modules = nn.ModuleDict(parts).to(settings.device)
        self._modules.train()
        trainable = (one for one in self._modules.parameters() if one.requires_grad)
        self._optimizer = make_optimizer(settings.optimizer, trainable)
        if checkpoint is not None and checkpoint.exists():
            self.trained.losses += _restore_checkpoint(checkpoint, self._modules, self._optimizer, settings.epochs)
        self._loss = _Loss(data, head, similarity, label_similarity, settings)
        self._engine = make_engine(settings.engine, module, form, network.choice)

    @property
    def done(self) -> int:
        """Number of finished epochs."""
        return len(self.trained.losses)

    def run_epoch(self) -> None:
        """Take every training track once.

        Raises
        ------
        EvaluationError
            If the loss is no longer finite.
        PluginError
            If the network or the similarity fails.
        """
        data, settings = self._data, self._settings
        excerpt = settings.form.excerpt
        batches = list(epoch_batches(settings.entropy, self.done, data.lengths, settings.batch, excerpt))
        targets = self._loss.targets([rows for rows, _ in batches])
        total = torch.zeros((), device=settings.device)
        # Anew for each epoch, so that a resumed training draws what it would have drawn.
        with torch_draws([*settings.entropy, Stream.STEPS, self.done], settings.device):
            for (rows, offsets), target in zip(_read_ahead(data, batches, excerpt), targets, strict=True):
                embeddings = self._engine.embed_excerpts(
                    data.frames, data.starts[rows], data.lengths[rows], offsets, data.normalization
                )  # [batch, units]
                loss = self._loss(embeddings, target)
                with self._differentiating():
                    self._optimizer.step(loss)
                total += loss.detach()
        self.trained.losses.append(float(total) / len(data.lengths))
        if not np.isfinite(self.trained.losses[-1]):
            raise EvaluationError(
                f"the loss is {self.trained.losses[-1]} after epoch {self.done}: the training of seed {settings.seed}, "
                f"fold {settings.fold} diverged; {after_divergence(settings.optimizer, self._similarity)}"
            )

    def save(self) -> None:
        """Write the checkpoint after every tenth epoch and the last one, if there is to be one."""
        if self._checkpoint is not None and (self.done % CHECKPOINT_EPOCHS == 0 or self.done == self._settings.epochs):
            _save_checkpoint(self._checkpoint, self._modules, self._optimizer, self.trained.losses)

    def keep(self, path: Path | None) -> None:
        """Write the network as a checkpoint from which a training with more epochs cannot resume."""
        if path is not None:
            _save_checkpoint(path, self._modules, None, self.trained.losses)

    def finish(self) -> None:
        """Note it if the network is no better than one that finds all pairs of tracks equally similar."""
        data, settings = self._data, self._settings
        if self._similarity is None or self.done < PATIENCE:
            return
        batches = epoch_batches(settings.entropy, self.done - 1, data.lengths, settings.batch)
        constant = constant_loss(self._loss.targets([rows for rows, _ in batches])) / len(data.lengths)
        self.trained.note = unlearned(self.trained.losses, constant, settings.optimizer)

    def _differentiating(self) -> contextlib.AbstractContextManager[object]:
        similarity = self._similarity
        return similarity.differentiating() if isinstance(similarity, PluginSimilarity) else contextlib.nullcontext()


def train(
    data: TrainingData,
    network: PluginNetwork,
    settings: TrainingSettings,
    similarity: Similarity | None = None,
    label_similarity: Similarity | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[int], None] = lambda epoch: None,
) -> Trained:
    """Train a single network to its last epoch; see `Training` and `train_together`."""
    training = Training(data, network, settings, similarity, label_similarity, checkpoint)
    train_together([training], settings, on_epoch)
    return training.trained


def train_together(
    trainings: Sequence[Training],
    settings: TrainingSettings,
    on_epoch: Callable[[int], None] = lambda epoch: None,
    on_checkpoint: Callable[[int], None] = lambda epoch: None,
) -> None:
    """Train networks side by side: each to a checkpoint, then each to the next.

    Parameters
    ----------
    trainings : sequence of Training
    settings : TrainingSettings
        Epochs and checkpoints are those of all networks.
    on_epoch : callable
        Receives the number of epochs done, over all networks.
    on_checkpoint : callable
        Receives the number of epochs that each network has done, before the last. After an interruption it may be
        called again for the same number.

    Raises
    ------
    MirembedError
        See `Training.run_epoch`.
    """

    def tick() -> None:
        on_epoch(sum(one.done for one in trainings))

    tick()
    every, last = settings.checkpoint_every, settings.epochs
    for stop in [*(range(every, last, every) if every else ()), last]:
        if all(one.done >= stop for one in trainings):
            continue
        # A network that was saved here or later has been to this checkpoint.
        is_new = all(one.done < stop for one in trainings)
        for one in trainings:
            while one.done < stop:
                one.run_epoch()
                if one.done < stop:
                    one.save()
                    tick()
        if is_new and stop < last:
            on_checkpoint(stop)
        for one in trainings:
            if one.done == stop:
                one.save()  # after on_checkpoint, so that a resumed training has already done everything that it skips
        tick()
    for one in trainings:
        one.finish()


class _Loss:
    """The loss of a batch, from its embeddings ``[batch, units]`` and its target.

    The target is the similarity of the labels, ``[batch, batch]``, or for the baselines the labels themselves.
    """

    def __init__(
        self,
        data: TrainingData,
        head: nn.Linear | None,
        similarity: Similarity | None,
        label_similarity: Similarity | None,
        settings: TrainingSettings,
    ) -> None:
        self._head, self._similarity = head, similarity
        self._label_similarity, self._batch = label_similarity or similarity, settings.batch
        self._labels = to_device(data.label_vectors, settings.device)
        self._of_outputs: Callable[[Tensor, Tensor], Tensor] = regression_loss
        if isinstance(data.task, Tags):
            self._of_outputs = tags_loss
        if isinstance(data.task, Classification):
            self._of_outputs = classification_loss
            if similarity is None:
                self._labels = self._labels.argmax(dim=1)

    def targets(self, batches: Sequence[NDArray[np.int64]]) -> Iterator[Tensor]:
        """Yield the target of each batch; all but the last have the same size."""
        if self._label_similarity is None:
            yield from (self._labels[rows] for rows in batches)
            return
        *full, last = batches
        at_once = max(1, _PAIRS // self._batch**2)
        for first in range(0, len(full), at_once):
            yield from self._label_similarity(self._labels[np.stack(full[first : first + at_once])])
        yield self._label_similarity(self._labels[last])

    def __call__(self, embeddings: Tensor, target: Tensor) -> Tensor:
        if self._similarity is not None:
            return similarity_loss(self._similarity(embeddings), target)
        assert self._head is not None  # noqa: S101
        return self._of_outputs(self._head(embeddings), target)


def _read_ahead(
    data: TrainingData, batches: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]], excerpt: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the rows and offsets of batches while the frames of the next ones are being read."""
    # An excerpt and, for its first difference, the frame before it.
    first = [data.starts[rows] + np.maximum(offsets - 1, 0) for rows, offsets in batches]
    counts = [np.minimum(excerpt, data.lengths[rows] - offsets) + 1 for rows, offsets in batches]
    runs = list(zip(first, counts, strict=True))
    for number in reading_ahead(data.frames, runs):
        yield batches[number]


def _save_checkpoint(path: Path, modules: nn.Module, optimizer: Optimizer | None, losses: list[float]) -> None:
    """Replace a checkpoint: weights, the optimizer's state and the losses so far in one file."""
    from safetensors.torch import save

    tensors = {f"module.{name}": tensor for name, tensor in modules.state_dict().items()}
    if optimizer is not None:
        tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer.state().items()}
    content = save(
        # Copies, because weights that two layers share would be refused.
        {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()},
        metadata={"losses": json.dumps(losses)},
    )
    with writing(path) as temporary:
        # Not by save_file, whose errors do not distinguish a full disk from other causes.
        temporary.write_bytes(content)


def _restore_checkpoint(path: Path, modules: nn.Module, optimizer: Optimizer, epochs: int) -> list[float]:
    """Load a checkpoint into modules and, unless all ``epochs`` are done, optimizer; return the losses of its epochs.

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
        if len(losses) < epochs:
            optimizer.restore(parts["optimizer"])
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise StoreError(
            f"{path} is damaged ({type(error).__name__}: {reason}); delete it and run the same command again to repeat "
            "this training from the start"
        ) from error
    return losses
