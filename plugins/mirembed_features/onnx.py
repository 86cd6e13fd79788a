"""The features ``onnx``: a network exported to ONNX, on windows of a recording.

The input is samples, or patches of the mel spectrogram that the published models of the Music Technology Group expect
(MusiCNN, EffNet-Discogs: Alonso-Jiménez et al., TensorFlow Audio Models in Essentia, ICASSP 2020).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mirembed import Audio, AudioError
from mirembed_features.framing import exact, windows

MEL_RATE, MEL_FRAME, MEL_HOP, MEL_BANDS = 16_000, 512, 256, 96
"""Of Essentia's TensorflowInputMusiCNN: Hz, samples, samples, bands."""

PATCH_HOPS = {187: 93, 128: 62}
"""Frames from patch to patch in Essentia, by the length of a patch; half of it for others."""

_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}

Kind = Literal["auto", "waveform", "musicnn"]


@dataclass(frozen=True)
class Layout:
    """How a model takes windows.

    Attributes
    ----------
    kind : {"waveform", "musicnn"}
    shape : tuple of int
        Of one window, without the batch.
    batched : bool
        Whether the input has a first axis for several windows.
    batch : int or None
        The only number of windows that the model takes at once; None if it takes any.
    """

    kind: Literal["waveform", "musicnn"]
    shape: tuple[int, ...]
    batched: bool
    batch: int | None


class Onnx:
    """The output of an ONNX model for each window of a recording, computed by ONNX Runtime on one CPU thread.

    Window ``i`` begins at ``i * hop`` seconds; zeros fill the last one, so that the end of the recording is in it.
    Parameters that are not given are taken from the model where possible.

    Parameters
    ----------
    model : pathlib.Path
        The ONNX file, with its weights inside.
    rate : int or None
        Sampling rate in Hz that the model expects; required for samples, and 16000 for musicnn.
    window : float or None
        Seconds in a window; needed only if the model takes windows of any length.
    hop : float or None
        Seconds from one window to the next; by default as long as a window. For musicnn a multiple of 0.016, by default
        1.488 (patches of 187 frames), 0.992 (128 frames) or half a patch.
    kind : {"auto", "waveform", "musicnn"}
        What the input is: samples; or patches [frames, 96] of the logarithmic mel spectrogram of MusiCNN, which needs
        Essentia. auto: musicnn if an axis of the input has 96 values and it has three or more axes, otherwise waveform.
    input : str or None
        Name of the input. A model can have only one.
    output : str or None
        Name of the output; needed if there are several.
    pooling : {"mean", "flatten"}
        For outputs of more axes than [batch, values]: the mean over all but the last axis, or all values as one frame.
    batch : int
        Windows that are computed at once, 1 to 1024, unless the model prescribes their number.

    Raises
    ------
    ValueError
        ONNX Runtime is not installed; the file is not a model, or needs something else; a parameter is out of range, or
        is needed and not given. The message lists the inputs and outputs of the model.
    """

    version = "1"
    neutral = ("model",)

    def __init__(
        self,
        model: Path,
        rate: int | None = None,
        window: float | None = None,
        hop: float | None = None,
        kind: Kind = "auto",
        input: str | None = None,  # noqa: A002, the name of the parameter in a spec
        output: str | None = None,
        pooling: Literal["mean", "flatten"] = "mean",
        batch: int = 16,
    ) -> None:
        if rate is not None and not 1000 <= rate <= 768_000:
            raise ValueError(f"rate is {rate}; expected 1000 to 768000 Hz")
        for name, seconds in (("window", window), ("hop", hop)):
            if seconds is not None and not 0.001 <= seconds <= 600:
                raise ValueError(f"{name} is {seconds:g}; expected 0.001 to 600 seconds")
        if pooling not in ("mean", "flatten"):
            raise ValueError(f"pooling is {pooling}; expected mean or flatten")
        if not 1 <= batch <= 1024:
            raise ValueError(f"batch is {batch}; expected 1 to 1024 windows")
        self._file, self._pooling = Path(model), pooling
        self._session, self.digest = _load(self._file)
        self._input = self._choose_input(input)
        self._output = self._choose_output(output)
        self._layout = self._guess_layout(kind, rate, window)
        self._rate = MEL_RATE if self._layout.kind == "musicnn" else self._required_rate(rate)
        self._set_hop(hop)
        self._batch = self._layout.batch or (batch if self._layout.batched else 1)
        self.values = self._run(np.zeros((1, *self._layout.shape), np.float32)).shape[1]

    @property
    def _length(self) -> int:
        """Samples, or frames of the mel spectrogram, in a window."""
        if self._layout.kind == "waveform":
            return max(self._layout.shape)
        return next((axis for axis in self._layout.shape if axis not in (1, MEL_BANDS)), MEL_BANDS)

    def extract(self, audio: Audio) -> NDArray[np.float32]:
        """Return the output for each window of a recording: ndarray ``[n_windows, values]``.

        Raises
        ------
        AudioError
            The output for this recording is not finite.
        """
        rows: Iterable[NDArray[np.float32]] = audio.blocks(self._rate)
        if self._layout.kind == "musicnn":
            rows = _mel_frames(rows)
        cut = windows(rows, self._length, self._hop, pad=True)
        found: list[NDArray[np.float32]] = []
        while batch := list(itertools.islice(cut, self._batch)):
            found.append(self._run(np.stack([self._arranged(window) for window in batch])))
        outputs = np.concatenate(found)
        if not np.isfinite(outputs).all():
            raise AudioError(f"the output {self._output.name} of {self._file} is NaN or infinite")
        return outputs

    def _arranged(self, window: NDArray[np.float32]) -> NDArray[np.float32]:
        shape = self._layout.shape
        if window.ndim == 2 and [axis for axis in shape if axis != 1] != list(window.shape):
            window = window.T  # the model takes [bands, frames]
        return window.reshape(shape)

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the outputs ``[n, values]`` for ``n`` windows."""
        n = len(batch)
        if self._layout.batch and n < self._layout.batch:
            batch = np.concatenate([batch, np.zeros((self._layout.batch - n, *batch.shape[1:]), np.float32)])
        fed = batch if self._layout.batched else batch[0]
        try:
            found = self._session.run([self._output.name], {self._input.name: fed.astype(_TYPES[self._input.type])})[0]
        except Exception as error:  # ONNX Runtime has a dozen of its own, without a common class
            what = _reason(error)
            remedy = "use a smaller batch" if "alloc" in what.lower() or "memory" in what.lower() else self._described
            raise ValueError(f"{self._file} fails on {list(fed.shape)}: {what}; {remedy}") from error
        outputs = np.asarray(found)
        if not self._layout.batched or (self._layout.batch == 1 and (not outputs.ndim or outputs.shape[0] != 1)):
            outputs = outputs[None]
        if not outputs.ndim or outputs.shape[0] != len(batch) or not outputs.size:
            raise ValueError(
                f"{self._file}: output {self._output.name} is {list(outputs.shape)} for {len(batch)} windows; expected "
                "one row for each; choose another output, or export the model with a batch axis"
            )
        if self._pooling == "mean" and outputs.ndim > 2:
            outputs = outputs.reshape(len(outputs), -1, outputs.shape[-1]).mean(axis=1)
        return outputs.reshape(len(outputs), -1)[:n].astype(np.float32)

    def _choose_input(self, name: str | None) -> Any:
        inputs = self._session.get_inputs()
        if name is not None and name not in {one.name for one in inputs}:
            raise ValueError(f"{self._file}: no input {name}; {self._described}")
        if len(inputs) != 1:
            raise ValueError(f"{self._file}: expected a model with one input, the audio; {self._described}")
        if inputs[0].type not in _TYPES:
            raise ValueError(f"{self._file}: expected an input of floating-point numbers; {self._described}")
        return inputs[0]

    def _choose_output(self, name: str | None) -> Any:
        outputs = [one for one in self._session.get_outputs() if one.type in _TYPES and name in (None, one.name)]
        if len(outputs) != 1:
            problem = "add output=NAME" if name is None else f"no output {name} of floating-point numbers"
            raise ValueError(f"{self._file}: {problem}; {self._described}")
        return outputs[0]

    @property
    def _described(self) -> str:
        def describe(all_: Sequence[Any]) -> str:
            return ", ".join(f"{one.name} {_shape_text(one.shape)} {one.type}" for one in all_)

        return (
            f"the model has inputs {describe(self._session.get_inputs())} and outputs "
            f"{describe(self._session.get_outputs())}"
        )

    def _guess_layout(self, kind: Kind, rate: int | None, window: float | None) -> Layout:
        sizes: list[int | None] = [axis if isinstance(axis, int) else None for axis in self._input.shape]
        if kind == "musicnn" or (kind == "auto" and len(sizes) > 2 and MEL_BANDS in sizes[1:]):
            return self._musicnn_layout(sizes, rate, window)
        batched = len(sizes) > 1
        axes = sizes[1:] if batched else sizes
        if not axes or len(axes) > 2 or (len(axes) == 2 and axes.count(1) != 1) or axes == [1]:
            raise ValueError(
                f"{self._file}: input {self._input.name} is not samples: expected [samples], [batch, samples], "
                f"[batch, 1, samples] or [batch, samples, 1]; {self._described}"
            )
        stated = axes[0] if axes[-1] == 1 else axes[-1]
        needed = round(exact(window) * self._required_rate(rate)) if window is not None else stated
        if needed is None:
            raise ValueError(
                f"{self._file}: window=SECONDS is needed, because the model takes any length; {self._described}"
            )
        if stated is not None and needed != stated:
            raise ValueError(
                f"{self._file}: window={window:g} is {needed} samples, but the model takes {stated}; omit window"
            )
        shape = tuple(1 if axis == 1 else needed for axis in axes)
        return Layout("waveform", shape, batched, sizes[0] if batched else None)

    def _musicnn_layout(self, sizes: list[int | None], rate: int | None, window: float | None) -> Layout:
        from mirembed import essentia_error

        axes = sizes[1:]
        frames = [axis for axis in axes if axis not in (1, MEL_BANDS)]
        if axes.count(MEL_BANDS) != 1 or len(axes) not in (2, 3) or len(axes) - axes.count(1) != 2 or None in frames:
            raise ValueError(
                f"{self._file}: input {self._input.name} is not patches [batch, frames, {MEL_BANDS}] with a number of "
                f"frames; {self._described}"
            )
        if rate not in (None, MEL_RATE):
            raise ValueError(f"rate is {rate}; expected {MEL_RATE} Hz for musicnn")
        if window is not None:
            raise ValueError(f"{self._file}: window={window:g} does not fit: its patches have {frames[0]} frames")
        if error := essentia_error():
            raise ValueError(f"kind=musicnn needs Essentia, which cannot be imported ({error})")
        return Layout("musicnn", tuple(axis for axis in axes if axis is not None), True, sizes[0])

    def _required_rate(self, rate: int | None) -> int:
        if rate is None:
            raise ValueError(f"{self._file}: rate=HZ is needed, because a model does not state it; {self._described}")
        return rate

    def _set_hop(self, seconds: float | None) -> None:
        """Set the hop, in rows of the input and in seconds."""
        row = Fraction(MEL_HOP, MEL_RATE) if self._layout.kind == "musicnn" else Fraction(1, self._rate)
        if seconds is not None:
            self._hop = exact(seconds) / row
            if self._layout.kind == "musicnn" and self._hop.denominator != 1:
                raise ValueError(f"hop is {seconds:g}; expected a multiple of {float(row):g} seconds for musicnn")
        elif self._layout.kind == "musicnn":
            self._hop = Fraction(PATCH_HOPS.get(self._length, max(1, self._length // 2)))
        else:
            self._hop = Fraction(self._length)
        if self._hop < 1:
            raise ValueError(f"hop is {seconds:g}; expected at least one sample")
        self.hop = float(self._hop * row)


def _load(file: Path) -> tuple[Any, str]:
    """Return ONNX Runtime's session of a model, and the digest of the file."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(f"onnx needs ONNX Runtime ({error}); install it with: pip install 'mirembed[onnx]'") from error
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror or error}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a dozen of its own, without a common class
        raise ValueError(
            f"{file}: ONNX Runtime cannot load it: {_reason(error)}; copy or export it again, as one file"
        ) from error
    return session, hashlib.blake2b(content, digest_size=16).hexdigest()


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.rpartition("[ONNXRuntimeError] : ")[2][:200] or type(error).__name__


def _shape_text(shape: Sequence[int | str | None]) -> str:
    return "[" + ", ".join("?" if axis is None else str(axis) for axis in shape) + "]"


def _mel_frames(blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Yield the frames of MusiCNN's mel spectrogram, some at a time: ndarray ``[n, 96]``.

    The center of the first is the first sample, and the last begins before the end, as in Essentia.
    """
    from mirembed import essentia_algorithm

    bands = essentia_algorithm("TensorflowInputMusiCNN").__compute__
    zeros = np.zeros(MEL_FRAME // 2, np.float32)
    frames = windows(itertools.chain([zeros], blocks, [zeros]), MEL_FRAME, Fraction(MEL_HOP), pad=False)
    while some := [bands(frame) for frame in itertools.islice(frames, 64)]:
        yield np.stack(some)
