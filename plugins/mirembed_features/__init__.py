"""The built-in features."""

from __future__ import annotations

from mirembed import Register, hookimpl
from mirembed_features.logmel import LogMel


@hookimpl
def mirembed_register_features(register: Register) -> None:
    """Register the built-in features."""
    register("logmel", LogMel, summary="Log-mel spectrogram: power in mel bands, in dB")
