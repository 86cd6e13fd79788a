"""The training loop of many networks at once, for a GPU.

Every network has the excerpts, the loss, the optimiser and the checkpoints that `mirembed.train.train` would give it;
embeddings and gradients of all come from one `StackedEngine`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirembed.engine.stacked import StackedEngine, no_excerpts
from mirembed.errors import EvaluationError
from mirembed.optimiser import step_together
from mirembed.train import Training

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
            [training.data.normalisation for training in trainings],
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
    draws = {place: _Draw.of(training) for place, training in enumerate(trainings) if training.done == epoch}
    device = trainings[0].settings.device
    excerpts = no_excerpts(max(len(draw.sizes) for draw in draws.values()), places, trainings[0].settings.batch)
    for place, draw in draws.items():
        for step, (size, own) in enumerate(zip(draw.sizes, draw.excerpts, strict=True)):
            excerpts[:, step, place, :size] = own
    totals = torch.zeros(places, device=device)
    for step, batch in enumerate(torch.from_numpy(excerpts).to(device).unbind(dim=1)):
        taking = {place: draw for place, draw in draws.items() if step < len(draw.sizes)}
        _take_step(trainings, taking, step, engine, batch, totals)
    for place, total in enumerate(totals.tolist()):
        if place in draws:
            trainings[place].end_epoch(total)


def _take_step(
    trainings: Sequence[Training],
    draws: dict[int, _Draw],
    step: int,
    engine: StackedEngine,
    excerpts: Tensor,
    totals: Tensor,
) -> None:
    """Train those that ``draws`` names on one batch each, and add the losses to ``totals [places]``."""
    embeddings = engine.embed_excerpts(excerpts)  # [places, batch, units]
    gradient = torch.zeros_like(embeddings)
    of_heads: dict[int, list[Tensor]] = {}
    for place, draw in draws.items():
        training = trainings[place]
        rows = draw.rows[step]
        own = embeddings[place, : len(rows)].clone().requires_grad_()
        loss = training.loss(own, rows)
        head = [] if training.trained.head is None else list(training.trained.head.parameters())
        with training.differentiating():
            of_embeddings, *of_heads[place] = torch.autograd.grad(loss, [own, *head])
        gradient[place, : len(rows)] = of_embeddings
        totals[place] += loss.detach()
    of_networks = engine.gradients(gradient)
    step_together(
        [trainings[place].optimiser for place in draws],
        [[*(stack[place] for stack in of_networks), *of_heads[place]] for place in draws],
    )


@dataclass(frozen=True)
class _Draw:
    """The batches of one training in one epoch.

    Attributes
    ----------
    sizes : list of int
        Tracks in each batch.
    rows : list of Tensor [batch], int64
        The training tracks, on the device.
    excerpts : list of ndarray [3, batch], int64
        As `StackedEngine.embed_excerpts` takes them.
    """

    sizes: list[int]
    rows: list[Tensor]
    excerpts: list[NDArray[np.int64]]

    @classmethod
    def of(cls, training: Training) -> _Draw:
        data = training.data
        batches = list(training.batches())
        sizes = [len(rows) for rows, _ in batches]
        order = torch.from_numpy(np.concatenate([rows for rows, _ in batches])).to(training.settings.device)
        excerpts = [np.stack([data.starts[rows], data.lengths[rows], offsets]) for rows, offsets in batches]
        return cls(sizes, list(torch.split(order, sizes)), excerpts)
