"""The training loop of many networks at once, for a GPU.

Every network has the excerpts, the loss, the optimizer and the checkpoints that `train` would give it;
embeddings and gradients of all come from one `StackedEngine`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from mirembed.errors import EvaluationError
from mirembed.training.engine.stacked import StackedEngine, no_excerpts
from mirembed.training.loop import BaselineObjective, SimilarityObjective, Training
from mirembed.training.optimizer import step_together

Item = TypeVar("Item")

STACK = 64
"""Networks that are trained together, at most.

One takes about 45 MB in batches of 32, for what the backward pass needs, so that a stack fits into 4 GB beside the
frames; and it holds a cross-validation of ten folds with six trainings each.
"""


def in_stacks(items: Sequence[Item]) -> list[tuple[Item, ...]]:
    """Divide trainings, or what stands for them, into those that are trained together."""
    return [tuple(items[first : first + STACK]) for first in range(0, len(items), STACK)]


def train_stacked(trainings: Sequence[Training], places: int) -> None:
    """Take trainings to their last epoch, together.

    One that is ahead of the others, because an interruption came between their checkpoints, waits for them.

    Parameters
    ----------
    trainings : sequence of Training
        With the same frames, epochs, batch and device.
    places : int
        Networks that the stack has room for; with it the numbers do not depend on which trainings are left.

    Raises
    ------
    EvaluationError
        If the loss of one is no longer a number, or the device has too little memory.
    PluginError
        If a similarity fails.
    """
    settings = trainings[0].settings
    try:
        engine = StackedEngine(
            [training.trained.network for training in trainings],
            [training.data.normalization for training in trainings],
            trainings[0].data.frames,
            places,
            settings.batch,
        )
        while min(training.done for training in trainings) < settings.epochs:
            _train_epoch(trainings, engine, places)
    except torch.OutOfMemoryError as error:
        raise EvaluationError(
            f"the memory of --device {settings.device} does not hold {places} networks with batches of "
            f"{settings.batch} and the frames of all tracks; use a smaller --batch, or --device cpu"
        ) from error


def _train_epoch(trainings: Sequence[Training], engine: StackedEngine, places: int) -> None:
    """Train those that have done the fewest epochs for one more."""
    epoch = min(training.done for training in trainings)
    draws = _Draws(trainings, [training.done == epoch for training in trainings], places)
    totals = torch.zeros(places, device=trainings[0].settings.device)
    for step in range(draws.n_steps):
        _take_step(trainings, draws, step, engine, totals)
    for training, total in zip(trainings, totals.tolist(), strict=False):
        if training.done == epoch:
            training.end_epoch(total)


def _take_step(trainings: Sequence[Training], draws: _Draws, step: int, engine: StackedEngine, totals: Tensor) -> None:
    """Train those that take part on one batch each, and add the losses to ``totals [places]``."""
    embeddings = engine.embed_excerpts(draws.excerpts[step])  # [places, batch, units]
    gradient = torch.zeros_like(embeddings)
    of_heads: dict[int, list[Tensor]] = {}
    for group in draws.groups(step):
        vectors = draws.label_vectors[step][:, : group.size]  # [places, n, d]
        own = embeddings[:, : group.size].clone().requires_grad_()  # [places, n, units]
        losses = group.training.objective(own, vectors, None)  # [places]
        with group.training.differentiating():
            (of_own,) = torch.autograd.grad(torch.where(group.inside, losses, 0).sum(), own)
        # Not by multiplication: in the other places may stand what is no number.
        gradient[:, : group.size] = torch.where(group.inside[:, None, None], of_own, gradient[:, : group.size])
        totals += torch.where(group.inside, losses.detach(), 0)
    for place, rows in draws.of_heads(step):
        training = trainings[place]
        own = embeddings[place, : len(rows)].clone().requires_grad_()  # [n, units]
        loss = training.loss(own, rows)
        head = training.trained.head
        assert head is not None  # noqa: S101
        gradient[place, : len(rows)], *of_heads[place] = torch.autograd.grad(loss, [own, *head.parameters()])
        totals[place] += loss.detach()
    of_networks = engine.gradients(gradient)
    taking = draws.taking(step)
    step_together(
        [trainings[place].optimizer for place in taking],
        [[*(stack[place] for stack in of_networks), *of_heads.get(place, [])] for place in taking],
    )


@dataclass(frozen=True)
class _Group:
    """Trainings with one objective, and batches of one size in a step: their losses are computed together.

    They are computed for all places of the stack, and those outside the group ignored, so that the numbers do not
    depend on who is in it.

    Attributes
    ----------
    training : Training
        One of the group.
    size : int
        Tracks in each batch.
    inside : Tensor [places], bool
    """

    training: Training
    size: int
    inside: Tensor


class _Draws:
    """The batches of one epoch.

    Parameters
    ----------
    trainings : sequence of Training
    taking_part : sequence of bool
        Which of them are trained.
    places : int

    Attributes
    ----------
    n_steps : int
    excerpts : sequence of Tensor [3, places, batch], int64
        Of each step, as `StackedEngine.embed_excerpts` takes them.
    label_vectors : sequence of Tensor [places, batch, d]
        Of each step; 0 where there is no excerpt.
    """

    def __init__(self, trainings: Sequence[Training], taking_part: Sequence[bool], places: int) -> None:
        self._trainings = trainings
        settings = trainings[0].settings
        batches = {place: list(trainings[place].batches()) for place, taking in enumerate(taking_part) if taking}
        self._rows = {place: [rows for rows, _ in own] for place, own in batches.items()}
        self.n_steps = max(map(len, batches.values()))
        n_outputs = trainings[0].data.label_vectors.shape[1]
        excerpts = no_excerpts(self.n_steps, places, settings.batch)
        vectors = np.zeros((self.n_steps, places, settings.batch, n_outputs), np.float32)
        for place, own in batches.items():
            data = trainings[place].data
            for step, (rows, offsets) in enumerate(own):
                excerpts[:, step, place, : len(rows)] = data.starts[rows], data.lengths[rows], offsets
                vectors[step, place, : len(rows)] = data.label_vectors[rows]
        self.excerpts = torch.from_numpy(excerpts).to(settings.device).unbind(dim=1)
        self.label_vectors = torch.from_numpy(vectors).to(settings.device).unbind(dim=0)
        self._places = torch.arange(places, device=settings.device)
        self._groups: dict[tuple[tuple[int, int], ...], list[_Group]] = {}
        self._rows_of_heads = {
            place: torch.split(torch.from_numpy(np.concatenate(own)).to(settings.device), [*map(len, own)])
            for place, own in self._rows.items()
            if isinstance(trainings[place].objective, BaselineObjective)
        }

    def taking(self, step: int) -> list[int]:
        """Return the places of the trainings that have a batch in a step."""
        return [place for place, own in self._rows.items() if step < len(own)]

    def groups(self, step: int) -> list[_Group]:
        """Return the trainings of a step that learn a similarity, by what their losses have in common."""
        sizes = tuple((place, len(self._rows[place][step])) for place in self.taking(step))
        if sizes not in self._groups:
            self._groups[sizes] = self._divide(sizes)
        return self._groups[sizes]

    def _divide(self, sizes: tuple[tuple[int, int], ...]) -> list[_Group]:
        alike: dict[tuple[int, int, int], list[int]] = {}
        for place, size in sizes:
            objective = self._trainings[place].objective
            if isinstance(objective, SimilarityObjective):
                key = id(objective.similarity), id(objective.label_similarity), size
                alike.setdefault(key, []).append(place)
        return [
            _Group(
                self._trainings[members[0]],
                key[-1],
                torch.isin(self._places, torch.tensor(members, device=self._places.device)),
            )
            for key, members in alike.items()
        ]

    def of_heads(self, step: int) -> Iterator[tuple[int, Tensor]]:
        """Yield place and training tracks ``[n]`` of each baseline in a step, whose output layer is its own."""
        for place in self.taking(step):
            if isinstance(self._trainings[place].objective, BaselineObjective):
                yield place, self._rows_of_heads[place][step]
