"""The built-in features."""

from __future__ import annotations

from mirembed import Register, hookimpl
from mirembed_features.chroma import Chroma
from mirembed_features.descriptors import Descriptors
from mirembed_features.logmel import LogMel
from mirembed_features.onnx import Onnx
from mirembed_features.semitones import Semitones
from mirembed_features.vectors import Vectors


@hookimpl
def mirembed_register_features(register: Register) -> None:
    """Register the built-in features."""
    register("logmel", LogMel, summary="Log-mel spectrogram: power in mel bands, in dB")
    register("semitones", Semitones, summary="Power in bands a semitone apart, in dB, aligned with logmel")
    register("chroma", Chroma, summary="Strength of each pitch class (HPCP), aligned with logmel")
    register(
        "descriptors",
        Descriptors,
        summary="Essentia's low-level, rhythm and tonal descriptors, one vector per recording",
    )
    register("vectors", Vectors, summary="Vectors or frames that you computed elsewhere, from a table or a folder")
    register("onnx", Onnx, summary="Outputs of a network in an ONNX file, one frame per window")
