"""The exceptions of mirembed, in one tree, and its warning.

::

    MirembedError                  every error that a user can cause or fix
    ├── SpecError                  a value on the command line cannot be read
    ├── PluginError                a plugin is broken, or does not do what its hook requires
    │   ├── UnknownNameError       no plugin has this name
    │   ├── NameClashError         two distributions register the same name
    │   ├── ParameterError         the plugin does not take this parameter or value
    │   └── ConformanceError       a check in mirembed.testing failed
    ├── DatasetError               a folder or label file is not what the dataset expects
    ├── AudioError                 an audio file cannot be turned into features
    ├── StoreError                 the store cannot be read or written
    │   ├── StoreBusyError         another process is writing to it
    │   ├── StoreWriteError        full disk, no permission
    │   └── MismatchError          features or models were made with other parameters
    ├── ModelError                 a saved model cannot be used
    ├── EvaluationError            folds or approaches cannot be evaluated
    └── WorkerError                a worker process was killed

A message gives the value, what was expected, and what to do next.
"""

from __future__ import annotations


class MirembedError(Exception):
    """Base class of every error that mirembed raises on purpose."""


class SpecError(MirembedError):
    """A value on the command line, such as ``rbf:gamma=2``, cannot be read."""


class PluginError(MirembedError):
    """A plugin cannot be loaded, or does not do what its hook requires."""


class UnknownNameError(PluginError):
    """No plugin has the requested name."""


class NameClashError(PluginError):
    """More than one distribution registers the requested name."""


class ParameterError(PluginError):
    """The plugin does not take this parameter, or the value has the wrong type."""


class ConformanceError(PluginError, AssertionError):
    """A check in `mirembed.testing` failed; test runners report it as a failure, not as an error."""


class DatasetError(MirembedError):
    """A folder or label file is not what the dataset plugin expects."""


class AudioError(MirembedError):
    """An audio file cannot be turned into features."""


class StoreError(MirembedError):
    """The store cannot be read, or does not hold what was requested."""


class StoreBusyError(StoreError):
    """Another process is writing to the store."""


class StoreWriteError(StoreError):
    """The store cannot be written: the disk is full, or permission is missing."""


class MismatchError(StoreError):
    """Features or models were made with other parameters."""


class ModelError(MirembedError):
    """A saved model cannot be loaded, or cannot be used for this purpose."""


class EvaluationError(MirembedError):
    """Tracks, folds or approaches cannot be trained or evaluated."""


class WorkerError(MirembedError):
    """A worker process was killed, and its work cannot be done elsewhere."""


class SystemWarning(UserWarning):
    """The system lacks something that makes work safer, such as locks; the work goes on without it."""


JOBLIB_WARNINGS = r"joblib\._multiprocessing_helpers"
"""Module that warns if /dev/shm cannot be written, which only joblib's processes need; mirembed uses none."""
