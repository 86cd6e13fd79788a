"""The engine that computes any network with torch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirembed.errors import PluginError
from mirembed.registry import plugin_code
from mirembed.store.frame_file import reading_ahead
from mirembed.training.excerpts import BLOCK, InputForm, Normalization, gather
from mirembed.training.network import one_thread, to_device

if TYPE_CHECKING:
    from mirembed.training.network import EmbeddingModule

TRACKS = 32
"""Tracks, or windows of a track, that are embedded at a time."""


def device_of(module: EmbeddingModule) -> torch.device:
    """Return the device of a module, which is the CPU if it has neither parameters nor buffers."""
    return next((tensor.device for tensor in module.state_dict().values()), torch.device("cpu"))


def checked_embeddings(name: str, embeddings: Any, shape: Sequence[int]) -> Tensor:
    """Return what a network returned, after a check of its type and shape.

    Raises
    ------
    PluginError
        If it is not a float32 tensor of the shape; the message begins with ``name``.
    """
    expected = tuple(shape)
    if not isinstance(embeddings, Tensor):
        raise PluginError(f"{name} returned {type(embeddings).__name__}; expected a tensor, torch.float32 {expected}")
    if embeddings.dtype != torch.float32 or tuple(embeddings.shape) != expected:
        found = f"{embeddings.dtype} {tuple(embeddings.shape)}"
        raise PluginError(f"{name} returned {found}; expected torch.float32 {expected}")
    return embeddings


class TorchEngine:
    """Computes a network by calling its module, on any processor and device; an `Engine`.

    Parameters
    ----------
    module : EmbeddingModule
    form : InputForm
    name : str
        The network's name in error messages.
    """

    def __init__(self, module: EmbeddingModule, form: InputForm | None = None, name: str = "the network") -> None:
        self._module, self._form, self._name = module, form or InputForm(), name

    def embed_excerpts(
        self,
        frames: NDArray[np.float32],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        offsets: NDArray[np.int64],
        normalization: Normalization,
    ) -> Tensor:
        """See `mirembed.training.engine.Engine`."""
        batch = starts, lengths, offsets
        return self._embed(*self._gather(frames, *batch, self._form.padded(lengths), normalization))

    @torch.inference_mode()
    def embed_tracks(
        self,
        frames: NDArray[np.float32],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        normalization: Normalization,
    ) -> NDArray[np.float32]:
        """See `mirembed.training.engine.Engine`."""
        trained = self._module.training
        self._module.eval()
        try:
            with one_thread():
                streamed = hasattr(self._module, "stream")
                embed = self._embed_streams if streamed else self._embed_windows
                embeddings = embed(frames, starts, lengths, normalization)
        finally:
            self._module.train(trained)
        if not np.isfinite(embeddings).all():
            [first, *_] = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
            raise PluginError(
                f"{self._name} returned values that are not finite for a track of {lengths[first]} frames"
            )
        return embeddings

    def _embed_streams(
        self,
        frames: NDArray[np.float32],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        normalization: Normalization,
    ) -> NDArray[np.float32]:
        """Embed tracks side by side, block by block, with the state carried from block to block.

        Every call has the same shape, whatever the number and lengths of the tracks. That is why a track's embedding
        does not depend on its companions.
        """
        embeddings = np.zeros((len(starts), self._module.units), np.float32)
        by_length = np.argsort(lengths, kind="stable")
        batches = [by_length[first : first + TRACKS] for first in range(0, len(starts), TRACKS)]
        module: Any = self._module
        for number in reading_ahead(frames, [(starts[rows], lengths[rows]) for rows in batches]):
            rows = batches[number]
            filled = np.resize(rows, TRACKS)
            state = None
            for offset in range(0, int(lengths[filled].max()), BLOCK):
                offsets = np.full(TRACKS, offset, np.int64)
                inputs, inside = self._gather(frames, starts[filled], lengths[filled], offsets, BLOCK, normalization)
                with self._naming(inputs):
                    state = module.stream(inputs, inside, state)
            with plugin_code(f"{self._name} fails to finish a stream"):
                embedded = module.finish(state)
            embeddings[rows] = self._checked(embedded, TRACKS).cpu().numpy()[: len(rows)]
        return embeddings

    def _embed_windows(
        self,
        frames: NDArray[np.float32],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        normalization: Normalization,
    ) -> NDArray[np.float32]:
        """Embed each track by itself, in consecutive windows as long as an excerpt, averaged by their frames."""
        embeddings = np.zeros((len(starts), self._module.units), np.float32)
        for row in reading_ahead(frames, list(zip(starts[:, None], lengths[:, None], strict=True))):
            offsets = np.arange(0, lengths[row], self._form.excerpt)  # [n_windows]
            n_frames = self._form.padded(lengths[[row]])
            total = np.zeros(self._module.units)
            for some in np.split(offsets, range(TRACKS, len(offsets), TRACKS)):
                windows = np.repeat(starts[row], len(some)), np.repeat(lengths[row], len(some)), some
                inputs, inside = self._gather(frames, *windows, n_frames, normalization)
                embedded = self._embed(inputs, inside).cpu().double()  # [n_windows, units]
                total += (embedded * inside.sum(dim=1, keepdim=True).cpu()).sum(dim=0).numpy()
            embeddings[row] = total / lengths[row]
        return embeddings

    def _gather(
        self,
        frames: NDArray[np.float32],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        offsets: NDArray[np.int64],
        n_frames: int,
        normalization: Normalization,
    ) -> tuple[Tensor, Tensor]:
        device = device_of(self._module)
        inputs, inside = gather(frames, starts, lengths, offsets, n_frames, normalization, deltas=self._form.deltas)
        return to_device(inputs, device), to_device(inside, device)

    def _embed(self, inputs: Tensor, inside: Tensor) -> Tensor:
        with self._naming(inputs):
            embeddings = self._module(inputs, inside)
        return self._checked(embeddings, len(inputs))

    def _naming(self, inputs: Tensor) -> AbstractContextManager[None]:
        return plugin_code(f"{self._name} fails for frames {tuple(inputs.shape)}")

    def _checked(self, embeddings: Any, n: int) -> Tensor:
        return checked_embeddings(self._name, embeddings, (n, self._module.units))
