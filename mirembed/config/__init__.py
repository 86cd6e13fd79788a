"""What decides the numbers of a fit or an evaluation: settings, their defaults, experiment files and presets."""

from mirembed.config.approaches import Approach, Method
from mirembed.config.files import presets, read_experiment, read_preset, write_experiment
from mirembed.config.settings import Settings

__all__ = ["Approach", "Method", "Settings", "presets", "read_experiment", "read_preset", "write_experiment"]
