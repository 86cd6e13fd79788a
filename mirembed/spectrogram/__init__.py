"""One audio file → its log-mel spectrogram, by Essentia or by scipy."""

from mirembed.spectrogram.backends import BACKENDS, Backend, choose_backend
from mirembed.spectrogram.definition import DEFAULTS, SpectrogramParameters, band_edges, count_frames
from mirembed.spectrogram.log_mel import Spectrogram, log_mel, spectrogram

__all__ = [
    "BACKENDS",
    "DEFAULTS",
    "Backend",
    "Spectrogram",
    "SpectrogramParameters",
    "band_edges",
    "choose_backend",
    "count_frames",
    "log_mel",
    "spectrogram",
]
