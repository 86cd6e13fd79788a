"""What decides the numbers of an experiment: settings, experiment files and presets."""

from mirembed.config.experiment import Experiment, check_normalize, choose_approaches, choose_device, on_engine
from mirembed.config.files import presets, read_experiment, read_preset, write_experiment
from mirembed.config.settings import EvaluationSettings

__all__ = [
    "EvaluationSettings",
    "Experiment",
    "check_normalize",
    "choose_approaches",
    "choose_device",
    "on_engine",
    "presets",
    "read_experiment",
    "read_preset",
    "write_experiment",
]
