"""The features ``onnx`` are the outputs of a model for the windows of a recording."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mirembed import AudioError, SamplesAudio, essentia_algorithm
from mirembed.errors import ParameterError
from mirembed.features import resolve_features
from mirembed.registry import Registry
from mirembed_features.onnx import Onnx

RATE = 16_000
Shape = list[int | str]


def save(
    path: Path,
    nodes: list[Any],
    inputs: dict[str, Shape],
    outputs: dict[str, Shape],
    weights: dict[str, np.ndarray] | None = None,
    type_: int = TensorProto.FLOAT,
) -> Path:
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(name, type_, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, type_, shape) for name, shape in outputs.items()],
        initializers,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def copies(path: Path, shape: Shape, type_: int = TensorProto.FLOAT) -> Path:
    """A model that returns its input."""
    node = helper.make_node("Identity", ["audio"], ["copy"])
    return save(path, [node], {"audio": shape}, {"copy": shape}, type_=type_)


def dense(path: Path, length: int = 400, values: int = 3) -> Path:
    """A model that multiplies windows with `weights`."""
    nodes = [helper.make_node("MatMul", ["audio", "weights"], ["embedding"])]
    shapes: tuple[dict[str, Shape], dict[str, Shape]] = {"audio": ["n", length]}, {"embedding": ["n", values]}
    return save(path, nodes, *shapes, {"weights": weights(length, values)})


def weights(length: int = 400, values: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(length, values)).astype(np.float32)


def noise(n_samples: int, rate: int = RATE, block: int = 2**19) -> SamplesAudio:
    return SamplesAudio(np.random.default_rng(n_samples).normal(0, 0.1, n_samples), rate, block=block)


def whole(audio: SamplesAudio) -> np.ndarray:
    return np.concatenate(list(audio.blocks()))


def test_frames_are_the_outputs_of_consecutive_windows(tmp_path: Path) -> None:
    features = Onnx(dense(tmp_path / "m.onnx"), rate=RATE)
    audio = noise(2_000)
    frames = features.extract(audio)
    assert (features.values, features.hop, frames.dtype) == (3, 400 / RATE, np.float32)
    np.testing.assert_allclose(frames, whole(audio).reshape(5, 400) @ weights(), rtol=1e-4, atol=1e-5)


def test_zeros_fill_the_last_window(tmp_path: Path) -> None:
    features = Onnx(dense(tmp_path / "m.onnx"), rate=RATE, hop=0.0125)
    audio = noise(1_050)
    padded = np.append(whole(audio), np.zeros(150, np.float32))
    expected = [padded[start : start + 400] @ weights() for start in range(0, 801, 200)]
    np.testing.assert_allclose(features.extract(audio), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("n_samples", "n_frames"), [(1, 1), (400, 1), (401, 2), (800, 2), (801, 3)])
def test_a_recording_of_any_length_has_frames(n_samples: int, n_frames: int, tmp_path: Path) -> None:
    assert len(Onnx(dense(tmp_path / "m.onnx"), rate=RATE).extract(noise(n_samples))) == n_frames


@pytest.mark.parametrize("block", [1, 333, 5_000])
def test_the_lengths_of_blocks_do_not_matter(block: int, tmp_path: Path) -> None:
    features = Onnx(dense(tmp_path / "m.onnx"), rate=RATE, hop=0.0107)
    np.testing.assert_array_equal(features.extract(noise(9_000, block=block)), features.extract(noise(9_000)))


def test_audio_is_resampled_to_the_rate_of_the_model(tmp_path: Path) -> None:
    features = Onnx(dense(tmp_path / "m.onnx"), rate=8_000)
    assert len(features.extract(noise(44_100, rate=44_100))) == 20


@pytest.mark.parametrize(
    ("shape", "given"),
    [
        ([400], {}),
        ([1, 400], {}),
        (["n", 400], {}),
        ([4, 400], {}),
        (["n", 1, 400], {}),
        ([1, 400, 1], {}),
        (["n", "length"], {"window": 0.025}),
        (["n", 1, "length"], {"window": 0.025}),
        (["length"], {"window": 0.025}),
        (["n", 400], {"window": 0.025, "batch": 1}),
    ],
)
def test_the_window_is_guessed_from_the_input(shape: Shape, given: dict[str, Any], tmp_path: Path) -> None:
    features = Onnx(copies(tmp_path / "m.onnx", shape), rate=RATE, pooling="flatten", **given)
    audio = noise(2_500)
    expected = np.append(whole(audio), np.zeros(300, np.float32)).reshape(7, 400)
    np.testing.assert_array_equal(features.extract(audio), expected)


@pytest.mark.parametrize("type_", [TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_models_of_other_precision_work(type_: int, tmp_path: Path) -> None:
    frames = Onnx(copies(tmp_path / "m.onnx", [1, 400], type_), rate=RATE).extract(noise(400))
    np.testing.assert_allclose(frames[0], whole(noise(400)), rtol=1e-3)
    assert frames.dtype == np.float32


def test_more_axes_are_averaged_or_flattened(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["audio", "shape"], ["frames"])]
    shapes: tuple[dict[str, Shape], dict[str, Shape]] = {"audio": ["n", 400]}, {"frames": ["n", 100, 4]}
    file = save(tmp_path / "m.onnx", nodes, *shapes, {"shape": np.array([-1, 100, 4])})
    windows = whole(noise(800)).reshape(2, 100, 4)
    mean = Onnx(file, rate=RATE).extract(noise(800))
    np.testing.assert_allclose(mean, windows.mean(axis=1), atol=1e-6)
    flat = Onnx(file, rate=RATE, pooling="flatten").extract(noise(800))
    np.testing.assert_array_equal(flat, windows.reshape(2, 400))


def test_one_of_several_outputs_is_chosen_by_name(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["copy"]), helper.make_node("Neg", ["x"], ["negative"])]
    shape: Shape = ["n", 400]
    file = save(tmp_path / "m.onnx", nodes, {"x": shape}, {"copy": shape, "negative": shape})
    found = Onnx(file, rate=RATE, output="negative", input="x").extract(noise(400))
    np.testing.assert_array_equal(found[0], -whole(noise(400)))
    for given in ({}, {"output": "third"}, {"output": "copy", "input": "y"}):
        with pytest.raises(ValueError, match=r"copy \[n, 400\].*negative \[n, 400\]"):
            Onnx(file, rate=RATE, **given)


def test_the_digest_is_of_the_file_and_the_path_is_not_in_it(tmp_path: Path) -> None:
    first, second, other = tmp_path / "a.onnx", tmp_path / "b.onnx", tmp_path / "c.onnx"
    dense(first), dense(second), dense(other, values=4)
    digests = [
        resolve_features(Registry.discover(), f"onnx:model={f},rate=16000").digests[0] for f in (first, second, other)
    ]
    assert digests[0] == digests[1] != digests[2]


def mel_frames(samples: np.ndarray) -> np.ndarray:
    """The mel spectrogram of MusiCNN, with Essentia's own frame cutter."""
    cutter = essentia_algorithm("FrameCutter", frameSize=512, hopSize=256)
    bands = essentia_algorithm("TensorflowInputMusiCNN")
    found = []
    while len(frame := cutter.__compute__(samples)):
        found.append(bands.__compute__(frame))
    return np.stack(found)


@pytest.mark.parametrize(
    "shape", [["n", 187, 96], [1, 187, 96], [64, 128, 96], ["n", 1, 128, 96], ["n", 128, 96, 1], ["n", 96, 128]]
)
def test_models_on_mel_spectrograms_get_the_patches_that_essentia_gives_them(shape: Shape, tmp_path: Path) -> None:
    features = Onnx(copies(tmp_path / "m.onnx", shape), pooling="flatten")
    length = 187 if 187 in shape else 128
    hop = {187: 93, 128: 62}[length]
    assert features.hop == hop * 0.016
    audio = noise(10 * RATE)
    mel = mel_frames(whole(audio))
    patches = features.extract(audio)
    for number in range((len(mel) - length) // hop + 1):
        patch = mel[number * hop : number * hop + length]
        expected = patch.T if shape[-1] == 128 else patch
        np.testing.assert_array_equal(patches[number].reshape(expected.shape), expected)
    assert len(patches) == (len(mel) - length) // hop + 2  # the rest is filled with zeros


def test_the_hop_of_patches_is_whole_frames(tmp_path: Path) -> None:
    file = copies(tmp_path / "m.onnx", ["n", 187, 96])
    assert Onnx(file, hop=1.6).hop == 1.6
    for given in ({"hop": 1.0}, {"window": 3.0}, {"rate": 44_100}):
        with pytest.raises(ValueError, match=next(iter(given))):
            Onnx(file, **given)


BAD_MODELS: dict[str, tuple[Shape, dict[str, Any], str]] = {
    "no rate": (["n", 400], {}, "rate="),
    "any length": (["n", "length"], {"rate": RATE}, "window="),
    "another length": (["n", 400], {"rate": RATE, "window": 1.0}, "16000"),
    "an image": (["n", 3, 224, 224], {"rate": RATE}, r"224, 224"),
    "many channels": (["n", 2, 400], {"rate": RATE}, r"2, 400"),
    "no axes known": (["n", "a", "b"], {"rate": RATE, "window": 1.0}, r"\[n, a, b\]"),
    "no patches": (["n", 128, 64], {"kind": "musicnn"}, r"128, 64"),
    "patches of any length": (["n", "time", 96], {}, r"time, 96"),
}


@pytest.mark.parametrize("what", BAD_MODELS)
def test_what_cannot_be_guessed_is_asked_for(what: str, tmp_path: Path) -> None:
    shape, given, fact = BAD_MODELS[what]
    file = copies(tmp_path / "m.onnx", shape)
    with pytest.raises(ValueError, match=fact) as caught:
        Onnx(file, **given)
    assert str(file) in str(caught.value)


def test_a_model_with_two_inputs_or_of_integers_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "y"], ["sum"])]
    two = save(tmp_path / "two.onnx", nodes, {"x": [1, 400], "y": [1, 400]}, {"sum": [1, 400]})
    with pytest.raises(ValueError, match=r"x \[1, 400\].*y \[1, 400\]"):
        Onnx(two, rate=RATE)
    with pytest.raises(ValueError, match="int64"):
        Onnx(copies(tmp_path / "int.onnx", [1, 400], TensorProto.INT64), rate=RATE)


def test_a_model_that_mixes_the_windows_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0)]
    file = save(tmp_path / "m.onnx", nodes, {"x": ["n", 400]}, {"mean": []})
    with pytest.raises(ValueError, match="batch"):
        Onnx(file, rate=RATE)


@pytest.mark.parametrize("content", ["truncated", "empty", "text", "missing"])
def test_a_file_that_is_no_model_is_refused_with_its_name(content: str, tmp_path: Path) -> None:
    file = dense(tmp_path / "m.onnx")
    if content == "missing":
        file.unlink()
    else:
        file.write_bytes({"truncated": file.read_bytes()[:-500], "empty": b"", "text": b"weights go here"}[content])
    with pytest.raises(ParameterError, match=r"m\.onnx") as caught:
        resolve_features(Registry.discover(), f"onnx:model={file},rate=16000")
    assert "\n" not in str(caught.value)


def test_a_model_that_needs_too_much_memory_says_what_to_do(tmp_path: Path) -> None:
    nodes = [helper.make_node("Expand", ["x", "shape"], ["large"])]
    file = save(tmp_path / "m.onnx", nodes, {"x": [1, 400]}, {"large": []}, {"shape": np.array([2**38, 400])})
    with pytest.raises(ValueError, match=r"m\.onnx.*smaller batch"):
        Onnx(file, rate=RATE)


def test_an_output_that_is_not_finite_is_a_failure_of_the_recording(tmp_path: Path) -> None:
    file = save(tmp_path / "m.onnx", [helper.make_node("Log", ["x"], ["y"])], {"x": [1, 400]}, {"y": [1, 400]})
    with pytest.raises(AudioError, match=r"m\.onnx"):
        Onnx(file, rate=RATE).extract(noise(800))


def test_without_onnxruntime_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ParameterError, match=r"mirembed\[onnx\]"):
        resolve_features(Registry.discover(), f"onnx:model={dense(tmp_path / 'm.onnx')},rate=16000")


@pytest.mark.parametrize("parameters", ["rate=10", "window=0", "window=nan", "hop=0", "hop=1000", "batch=0"])
def test_a_parameter_out_of_range_is_refused(parameters: str, tmp_path: Path) -> None:
    rate = "" if "rate" in parameters else "rate=16000,"
    with pytest.raises(ParameterError, match=parameters.partition("=")[0]):
        resolve_features(Registry.discover(), f"onnx:model={dense(tmp_path / 'm.onnx')},{rate}{parameters}")
