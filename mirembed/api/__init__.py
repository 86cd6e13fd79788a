"""mirembed from Python: the commands as functions, and models, runs and stores as objects.

::

    import mirembed

    mirembed.extract("folder", audio="music")           Extraction: what was added, what failed
    mirembed.fit("folder", similarity="rbf")            Model, saved in the store
    mirembed.evaluate("folder", similarity="rbf")       Run: scores, predictions, folds

    model = mirembed.load("folder-rbf-sl")              a saved Model
    model.embed("new")                                  Embeddings of audio files
    model.predict("new")                                Predictions: labels and probabilities
    model.similar("new/song.wav")                       Neighbors in the library

    run = mirembed.open_run("folder-20260102")          a finished Run
    run.scores, run.predictions, run.folds              tables

    store = mirembed.Store("mirembed-store")
    store.datasets, store.models, store.runs            names
    store.tracks(), store.features()                    labels and files; frames by track
    store.embeddings("folder-rbf-sl")                   Embeddings of the tracks

The keywords are the flags of the commands, with underscores for hyphens and ``from_`` for ``--from``; None is a flag
that is not given. The commands call the same functions, so the numbers are the same to the bit.

Tables are `pyarrow.Table`; ``to_pandas()`` makes a data frame of one, if pandas is installed. Arrays are numpy's. What a
user can cause or fix raises an exception of `mirembed.errors`. What takes a while takes ``progress``: True shows a line
of text, False nothing.
"""

from mirembed.api.evaluation import evaluate
from mirembed.api.extraction import Extraction, extract
from mirembed.api.fitting import fit
from mirembed.api.models import Model, load
from mirembed.api.results import Embeddings, Neighbors, Predictions
from mirembed.api.runs import Run, open_run
from mirembed.api.store import Frames, Store

__all__ = [
    "Embeddings",
    "Extraction",
    "Frames",
    "Model",
    "Neighbors",
    "Predictions",
    "Run",
    "Store",
    "evaluate",
    "extract",
    "fit",
    "load",
    "open_run",
]
