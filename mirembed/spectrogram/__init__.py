"""The log-mel spectrogram: its definition, and computing it from samples or files."""

from mirembed.spectrogram.definition import DEFAULTS, SpectrogramParameters, band_edges, count_frames
from mirembed.spectrogram.log_mel import BACKENDS, Backend, choose_backend, log_mel

__all__ = [
    "BACKENDS",
    "DEFAULTS",
    "Backend",
    "SpectrogramParameters",
    "band_edges",
    "choose_backend",
    "count_frames",
    "log_mel",
]
