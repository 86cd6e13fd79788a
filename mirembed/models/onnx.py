"""A model's network as an ONNX file: the frames of tracks in, their embeddings out, normalization included.

Importing this module imports torch.
"""

from __future__ import annotations

import importlib.util
import io
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mirembed.errors import ModelError
from mirembed.interruption import interruptible
from mirembed.models.model import Model
from mirembed.provenance import versions
from mirembed.store.files import writing
from mirembed.training.excerpts import InputForm, Normalization

if TYPE_CHECKING:
    from mirembed.training.network import EmbeddingModule

TOLERANCE = 1e-5
"""How far an embedding may be from the model's, times the largest absolute value if that is above 1."""

_OPSET = 17
_NEEDED = ("onnx", "onnxruntime")


@dataclass(frozen=True)
class ExportedOnnx:
    """An ONNX file that was written.

    Attributes
    ----------
    path : pathlib.Path
    values, units : int
        Values of a frame, and of an embedding.
    difference : float
        The largest absolute difference from the model's embeddings, on random frames.
    bytes : int
        Size of the file.
    """

    path: Path
    values: int
    units: int
    difference: float
    bytes: int


def require_onnx() -> None:
    """Refuse to export where the packages for it are missing.

    Raises
    ------
    ModelError
    """
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        verb = "is" if len(missing) == 1 else "are"
        raise ModelError(f"{' and '.join(missing)} {verb} not installed; run: pip install 'mirembed[onnx]'")


def export_onnx(model: Model, path: Path) -> ExportedOnnx:
    """Write the network of a model as an ONNX file, after a check that it computes the model's embeddings.

    The file takes ``frames [batch, time, values]``, float32, the features as mirembed extracts them, and ``lengths
    [batch]``, int64, the frames of each track; what lies after them is ignored. It returns ``embedding [batch,
    units]``, float32. ``batch`` and ``time`` may be any numbers above 0. Its metadata names the features and the model.

    Parameters
    ----------
    model : Model
    path : pathlib.Path
        Replaced if it exists.

    Raises
    ------
    ModelError
        onnx or onnxruntime is not installed, the network cannot be expressed in ONNX, or the file would compute other
        embeddings than the model.
    StoreWriteError
        If the file cannot be written.
    """
    require_onnx()
    with interruptible():
        content = _described(_traced(model), model)
        difference = _difference(content, model)
    with writing(path) as temporary:
        temporary.write_bytes(content)
    return ExportedOnnx(path, model.features.values, model.network.units, difference, len(content))


class FullTracks(nn.Module):
    """Networks from the frames of full tracks to their embeddings side by side, as `Model.embed` computes them.

    Parameters
    ----------
    members : sequence of EmbeddingModule
    normalization : Normalization
    form : InputForm
    """

    mean: Tensor
    std: Tensor

    def __init__(self, members: Sequence[EmbeddingModule], normalization: Normalization, form: InputForm) -> None:
        super().__init__()
        self.members, self._form = nn.ModuleList(members), form
        self.register_buffer("mean", torch.from_numpy(normalization.mean.copy()))
        self.register_buffer("std", torch.from_numpy(normalization.std.copy()))

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Embed ``frames [batch, time, values]``, of which ``lengths [batch]`` count: Tensor ``[batch, units]``."""
        is_inside = torch.arange(frames.shape[1]) < lengths[:, None]  # [batch, time]
        inputs = (frames - self.mean) / self.std
        if self._form.deltas:
            before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
            inputs = torch.cat([inputs, (frames - before) / self.std], dim=2)
        inputs = torch.where(is_inside[:, :, None], inputs, torch.zeros(()))
        inside = is_inside.to(torch.float32)
        embedded: Tensor = torch.cat([self._embed(member, inputs, inside) for member in self.members], dim=1)
        return embedded

    def _embed(self, member: nn.Module, inputs: Tensor, inside: Tensor) -> Tensor:
        if hasattr(member, "stream"):  # the result in one piece is the result of the whole track
            whole: Tensor = member(inputs, inside)
            return whole
        return self._mean_of_windows(member, inputs, inside)

    def _mean_of_windows(self, member: nn.Module, inputs: Tensor, inside: Tensor) -> Tensor:
        """Embed consecutive windows as long as an excerpt, and average them by their frames."""
        length, (batch, _, values) = self._form.excerpt, inputs.shape
        used = (inputs.shape[1] + length - 1) // length * length
        inputs = torch.cat([inputs, torch.zeros(batch, length, values)], dim=1)[:, :used]
        inside = torch.cat([inside, torch.zeros(batch, length)], dim=1)[:, :used]
        windows, inside = inputs.reshape(-1, length, values), inside.reshape(-1, length)
        counts = inside.sum(dim=1, keepdim=True)  # [batch * n_windows, 1]
        # A window after the end of its track counts for nothing, but a mean over no frames would not be finite.
        embedded = member(windows, torch.where(counts > 0, inside, torch.ones(())))
        total = (embedded * counts).reshape(batch, -1, embedded.shape[1]).sum(dim=1)
        mean: Tensor = total / counts.reshape(batch, -1).sum(dim=1, keepdim=True)
        return mean


def _traced(model: Model) -> bytes:
    """Return the ONNX model of a network; torch follows one computation with padding, of two tracks."""
    module = FullTracks([member.module() for member in model.members], model.normalization, model.form).eval()
    time = model.form.excerpt + 7
    example = torch.zeros(2, time, model.features.values), torch.tensor([time, time - 2])
    buffer: Any = io.BytesIO()
    axes = {"frames": {0: "batch", 1: "time"}, "lengths": {0: "batch"}, "embedding": {0: "batch"}}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # What torch warns about, that another batch or length may give another result, is checked afterwards.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                example,
                buffer,
                input_names=["frames", "lengths"],
                output_names=["embedding"],
                dynamic_axes=axes,
                opset_version=_OPSET,
                dynamo=False,  # the other exporter unrolls recurrent layers over time
            )
    except Exception as error:
        raise _unusable(f"torch cannot express the {model.members[0].choice.name} in ONNX", error) from error
    content: bytes = buffer.getvalue()
    return content


def _unusable(problem: str, error: Exception) -> ModelError:
    """Return the error that says why there is no ONNX file, and what to use instead."""
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return ModelError(f"{problem} ({reason}); use the model with `mirembed embed`")


def _described(content: bytes, model: Model) -> bytes:
    """Add what a user of the file has to know to its metadata."""
    import onnx

    exported = onnx.load_model_from_string(content)
    made, features = model.provenance, model.features
    exported.producer_name, exported.producer_version = "mirembed", versions().get("mirembed", "")
    exported.doc_string = (
        "frames [batch, time, values]: the features of tracks, not normalized. lengths [batch]: the frames of each "
        "track; what lies after them is ignored. embedding [batch, units]."
    )
    facts = {
        "model": made.get("name", ""),
        "digest": made.get("digest", ""),
        "approach": made.get("approach", ""),
        "dataset": (made.get("dataset") or {}).get("spec", ""),
        "features": features.spec,
        "features_info": json.dumps(features.to_json(), sort_keys=True),
    }
    for name, value in facts.items():
        exported.metadata_props.add(key=f"mirembed.{name}", value=value)
    onnx.checker.check_model(exported)
    described: bytes = exported.SerializeToString()
    return described


def _difference(content: bytes, model: Model) -> float:
    """Return the largest difference between the embeddings of an ONNX file and of the model, for tracks of all kinds.

    Raises
    ------
    ModelError
        If it exceeds `TOLERANCE`, or ONNX Runtime cannot compute the file.
    """
    lengths = _test_lengths(model.form.excerpt, one_frame=model.features.hop is None)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((int(lengths.sum()), model.features.values)).astype(np.float32)
    frames = model.normalization.mean + model.normalization.std * noise
    expected = model.embed(frames, starts, lengths)
    name = model.members[0].choice.name
    tracks = [frames[start : start + length] for start, length in zip(starts, lengths, strict=True)]
    try:
        found = [_run(content, tracks), *(_run(content, [track]) for track in tracks[:2])]
    except Exception as error:
        raise _unusable(f"nothing was written: onnxruntime cannot compute the exported {name}", error) from error
    pairs = [(found[0], expected), *((one, expected[[row]]) for row, one in enumerate(found[1:]))]
    difference = max(float(np.abs(one - right).max()) for one, right in pairs)
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise ModelError(
            f"nothing was written: the exported network computes other embeddings than the model, by up to "
            f"{difference:.2g}; ONNX cannot express the {name}, or a check in mirembed.testing "
            "fails for it"
        )
    return difference


def _test_lengths(excerpt: int, *, one_frame: bool) -> NDArray[np.int64]:
    """Return lengths around that of an excerpt, the longest first."""
    if one_frame:
        return np.ones(3, np.int64)
    lengths = {1, 2, max(excerpt - 1, 1), excerpt, excerpt + 1, 2 * excerpt + 3, 1199}
    return np.array(sorted(lengths, reverse=True), np.int64)


def _run(content: bytes, tracks: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Compute an ONNX file with ONNX Runtime for tracks side by side, the shorter ones padded with zeros."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    frames = np.zeros((len(tracks), max(map(len, tracks)), tracks[0].shape[1]), np.float32)
    for row, track in enumerate(tracks):
        frames[row, : len(track)] = track
    lengths = np.array([len(track) for track in tracks], np.int64)
    [embeddings] = session.run(["embedding"], {"frames": frames, "lengths": lengths})
    found: NDArray[np.float32] = embeddings
    return found
