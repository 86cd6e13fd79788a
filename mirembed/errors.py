"""One tree of exceptions.

::

    MirembedError                  every error that a user can cause or mend
    ├── SpecError                  a value on the command line that cannot be read
    ├── PluginError                a plugin that is broken, or broke a promise
    │   ├── UnknownNameError       nothing is registered under this name
    │   ├── NameClashError         two distributions register the same name
    │   ├── ParameterError         a parameter that the factory does not take
    │   └── ConformanceError       a promise that a check of mirembed.testing found broken
    ├── DatasetError               a folder or label file that is not what the dataset expects
    ├── AudioError                 one audio file that cannot be turned into a spectrogram
    ├── StoreError                 the store cannot be read or written
    │   ├── StoreBusyError         another process writes to it
    │   ├── StoreWriteError        full disk, no permission
    │   └── FingerprintError       features made with other parameters
    ├── ModelError                 a saved model that cannot be used
    ├── EvaluationError            folds or approaches that cannot be evaluated
    └── WorkerError                a worker process was killed

A message gives the value, what was expected, and what to do next.
"""

from __future__ import annotations


class MirembedError(Exception):
    """Base of every error that mirembed raises on purpose."""


class SpecError(MirembedError):
    """A value on the command line, such as ``rbf:gamma=2``, that cannot be read."""


class PluginError(MirembedError):
    """A plugin that cannot be loaded, or that broke a promise of its hook."""


class UnknownNameError(PluginError):
    """No plugin registers the name that was asked for."""


class NameClashError(PluginError):
    """More than one distribution registers the name that was asked for."""


class ParameterError(PluginError):
    """A parameter that the plugin does not take, or a value of the wrong type."""


class ConformanceError(PluginError, AssertionError):
    """A plugin broke a promise that `mirembed.testing` checks; to a test runner a failure, not an error."""


class DatasetError(MirembedError):
    """A folder or label file that is not what the dataset plugin expects."""


class AudioError(MirembedError):
    """One audio file that cannot be turned into a spectrogram."""


class StoreError(MirembedError):
    """The store cannot be read or does not hold what was asked for."""


class StoreBusyError(StoreError):
    """Another process is writing to the store."""


class StoreWriteError(StoreError):
    """The store cannot be written: full disk, no permission."""


class FingerprintError(StoreError):
    """Features or models that were made with other parameters."""


class ModelError(MirembedError):
    """A saved model that cannot be loaded or used for this purpose."""


class EvaluationError(MirembedError):
    """Tracks, folds or approaches that cannot be trained or evaluated."""


class WorkerError(MirembedError):
    """A worker process was killed, and its work cannot be done elsewhere."""
