"""A model's networks as an ONNX file: the frames of tracks in, their embeddings out, normalization included.

Importing this module imports torch.
"""

from __future__ import annotations

import importlib.util
import io
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mirembed.errors import ModelError
from mirembed.features.info import FeaturesInfo
from mirembed.interruption import interruptible
from mirembed.models.base import AnyModel, TrackFrames
from mirembed.models.baselines import InputStatistics
from mirembed.models.combined import CombinedModel
from mirembed.models.model import Model
from mirembed.progress import joined
from mirembed.provenance import versions
from mirembed.store.files import writing
from mirembed.training.excerpts import InputForm, Normalization

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
        Values of a frame, of all inputs together, and of an embedding.
    inputs : mapping of str to str
        The features that each input of frames takes.
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
    inputs: Mapping[str, str]


def require_onnx() -> None:
    """Refuse to export where the packages for it are missing.

    Raises
    ------
    ModelError
    """
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        verb = "is" if len(missing) == 1 else "are"
        raise ModelError(f"{' and '.join(missing)} {verb} not installed; run: pip install 'mirembed[onnx]'")


def export_onnx(model: AnyModel, path: Path) -> ExportedOnnx:
    """Write the networks of a model as an ONNX file, after a check that it computes the model's embeddings.

    The file takes ``frames [batch, time, values]``, float32, the features as mirembed extracts them, and ``lengths
    [batch]``, int64, the frames of each track; what lies after them is ignored. It returns ``embedding [batch,
    units]``, float32. ``batch`` and ``time`` may be any numbers above 0. Its metadata names the features and the model.

    The file of a combined model that takes several features has the inputs ``frames_1`` and ``lengths_1``, ``frames_2``
    and ``lengths_2``, and so on.

    Parameters
    ----------
    model : AnyModel
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
    values = sum(one.values for one in model.feature_sets)
    inputs = {f"frames{ending}": one.spec for ending, one in _inputs(model)}
    return ExportedOnnx(path, values, model.units, difference, len(content), inputs)


def _inputs(model: AnyModel) -> list[tuple[str, FeaturesInfo]]:
    """Return the features that a model takes, and the ending of the names of their inputs."""
    if len(model.feature_sets) == 1:
        return [("", model.feature_sets[0])]
    return [(f"_{number}", one) for number, one in enumerate(model.feature_sets, 1)]


class Statistics(nn.Module):
    """What the baseline ``stats`` computes, see `InputStatistics`."""

    mean: Tensor
    std: Tensor

    def __init__(self, statistics: InputStatistics) -> None:
        super().__init__()
        self._one_frame = statistics.one_frame
        self.register_buffer("mean", torch.from_numpy(statistics.mean.copy()))
        self.register_buffer("std", torch.from_numpy(statistics.std.copy()))

    def forward(self, inputs: Tensor, inside: Tensor) -> Tensor:
        """Return the statistics ``[batch, units]`` of those ``inputs [batch, time, width]`` that are ``inside``."""
        values, present = inputs.double(), inside.double()[:, :, None]
        counts = present.sum(dim=1)  # [batch, 1]
        found = (values * present).sum(dim=1) / counts  # [batch, width]
        if not self._one_frame:
            squares = torch.square(values - found[:, None]) * present
            found = torch.cat([found, torch.sqrt(squares.sum(dim=1) / counts)], dim=1)
        return ((found - self.mean) / self.std).to(torch.float32)


class FullTracks(nn.Module):
    """Networks from the frames of full tracks to their embeddings side by side, as `Model.embed` computes them.

    Parameters
    ----------
    members : sequence of torch.nn.Module
        Networks, or `Statistics`.
    normalization : Normalization
    form : InputForm
    """

    mean: Tensor
    std: Tensor

    def __init__(self, members: Sequence[nn.Module], normalization: Normalization, form: InputForm) -> None:
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
        # Of these, the result in one piece is the result of the whole track.
        if isinstance(member, Statistics) or hasattr(member, "stream"):
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

    @classmethod
    def of(cls, model: Model) -> FullTracks:
        """Return what embeds the tracks of a model."""
        network = model.network
        members = [Statistics(network)] if isinstance(network, InputStatistics) else [m.module() for m in model.members]
        return cls(members, model.normalization, model.form)


class SideBySide(nn.Module):
    """The concatenated embeddings of the members of a combined model, as `CombinedModel.embed_sets` computes them."""

    def __init__(self, model: CombinedModel) -> None:
        super().__init__()
        members = model.members.values()
        self.members = nn.ModuleList([FullTracks.of(member) for member in members])
        known = [one.digests for one in model.feature_sets]
        self._sets = [known.index(member.features.digests) for member in members]
        self._scales = [2.0**exponent for exponent in model.exponents.tolist()]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Embed tracks, given by frames and lengths for each of the features: Tensor ``[batch, units]``."""
        parts = zip(self.members, self._sets, self._scales, strict=True)
        return torch.cat([member(*inputs[2 * of : 2 * of + 2]) * scale for member, of, scale in parts], dim=1)


def _traced(model: AnyModel) -> bytes:
    """Return the ONNX model of a network; torch follows one computation with padding, of two tracks."""
    assert isinstance(model, Model | CombinedModel)  # noqa: S101
    module = (SideBySide(model) if isinstance(model, CombinedModel) else FullTracks.of(model)).eval()
    time = max(one.form.excerpt for one in _single(model)) + 7
    names: list[str] = []
    axes: dict[str, dict[int, str]] = {"embedding": {0: "batch"}}
    example: list[Tensor] = []
    for ending, features in _inputs(model):
        frames, lengths = f"frames{ending}", f"lengths{ending}"
        names += [frames, lengths]
        axes |= {frames: {0: "batch", 1: f"time{ending}"}, lengths: {0: "batch"}}
        example += [torch.zeros(2, time, features.values), torch.tensor([time, time - 2])]
    buffer: Any = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # What torch warns about, that another batch or length may give another result, is checked afterwards.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                tuple(example),
                buffer,
                input_names=names,
                output_names=["embedding"],
                dynamic_axes=axes,
                opset_version=_OPSET,
                dynamo=False,  # the other exporter unrolls recurrent layers over time
            )
    except Exception as error:
        raise _unusable(f"torch cannot express the {_networks(model)} in ONNX", error) from error
    content: bytes = buffer.getvalue()
    return content


def _single(model: AnyModel) -> list[Model]:
    """Return the members of a combined model, or the only model."""
    if isinstance(model, CombinedModel):
        return list(model.members.values())
    assert isinstance(model, Model)  # noqa: S101
    return [model]


def _networks(model: AnyModel) -> str:
    """Return the names of the networks of a model."""
    names = [network.choice.name for one in _single(model) for network in one.members]
    return joined(list(dict.fromkeys(names)) or ["statistics"])


def _unusable(problem: str, error: Exception) -> ModelError:
    """Return the error that says why there is no ONNX file, and what to use instead."""
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return ModelError(f"{problem} ({reason}); use the model with `mirembed embed`")


def _described(content: bytes, model: AnyModel) -> bytes:
    """Add what a user of the file has to know to its metadata."""
    import onnx

    exported = onnx.load_model_from_string(content)
    made = model.provenance
    exported.producer_name, exported.producer_version = "mirembed", versions().get("mirembed", "")
    exported.doc_string = (
        "frames [batch, time, values]: the features of tracks, not normalized. lengths [batch]: the frames of each "
        "track; what lies after them is ignored. Both for each of the features, if there are several. "
        "embedding [batch, units]."
    )
    facts = {
        "model": made.get("name", ""),
        "digest": made.get("digest", ""),
        "approach": made.get("approach", ""),
        "dataset": (made.get("dataset") or {}).get("spec", ""),
    }
    for ending, features in _inputs(model):
        facts[f"features{ending}"] = features.spec
        facts[f"features_info{ending}"] = json.dumps(features.to_json(), sort_keys=True)
    for name, value in facts.items():
        exported.metadata_props.add(key=f"mirembed.{name}", value=value)
    onnx.checker.check_model(exported)
    described: bytes = exported.SerializeToString()
    return described


def _difference(content: bytes, model: AnyModel) -> float:
    """Return the largest difference between the embeddings of an ONNX file and of the model, for tracks of all kinds.

    Raises
    ------
    ModelError
        If it exceeds `TOLERANCE`, or ONNX Runtime cannot compute the file.
    """
    sets = list(_noise(model))
    expected, name = model.embed_sets(sets), _networks(model)
    tracks = [
        [frames[start : start + length] for start, length in zip(starts, lengths, strict=True)]
        for frames, starts, lengths in sets
    ]  # by features, then by track
    try:
        alone = [_run(content, model, [of_set[row : row + 1] for of_set in tracks]) for row in range(2)]
        found = [_run(content, model, tracks), *alone]
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


def _noise(model: AnyModel) -> Iterator[TrackFrames]:
    """Yield random frames for each of the features of a model: of tracks around the length of an excerpt or longer."""
    rng = np.random.default_rng(0)
    excerpt = max(one.form.excerpt for one in _single(model))
    several = {1, 2, max(excerpt - 1, 1), excerpt, excerpt + 1, 2 * excerpt + 3, 1199}
    for features in model.feature_sets:
        lengths = np.array(sorted(several, reverse=True), np.int64)
        if features.hop is None:
            lengths = np.ones_like(lengths)
        normalization = next(m.normalization for m in _single(model) if m.features.digests == features.digests)
        noise = rng.standard_normal((int(lengths.sum()), features.values)).astype(np.float32)
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        yield normalization.mean + normalization.std * noise, starts, lengths


def _run(content: bytes, model: AnyModel, tracks: Sequence[Sequence[NDArray[np.float32]]]) -> NDArray[np.float32]:
    """Compute an ONNX file with ONNX Runtime for tracks side by side, the shorter ones padded with zeros.

    ``tracks`` has their frames, for each of the features of the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    given: dict[str, NDArray[Any]] = {}
    for (ending, _), of_set in zip(_inputs(model), tracks, strict=True):
        frames = np.zeros((len(of_set), max(map(len, of_set)), of_set[0].shape[1]), np.float32)
        for row, track in enumerate(of_set):
            frames[row, : len(track)] = track
        given |= {f"frames{ending}": frames, f"lengths{ending}": np.array([len(one) for one in of_set], np.int64)}
    [embeddings] = session.run(["embedding"], given)
    found: NDArray[np.float32] = embeddings
    return found
