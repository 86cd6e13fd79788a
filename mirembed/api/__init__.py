"""mirembed from Python: the commands as functions, and models, runs and stores as objects.

::

    mirembed.extract("folder", audio="music")        Extraction: what was added, what failed
    mirembed.fit("folder", similarity="rbf")         Model, saved in the store
    mirembed.evaluate("folder", similarity="rbf")    Run: scores, predictions, folds; saved in the store
    mirembed.load("folder-rbf-sl")                   Model, saved earlier
    mirembed.open_run("folder-20260102")             Run, finished earlier
    mirembed.Store("mirembed-store")                 Store

    Model      embed(paths) -> Embeddings, predict(paths) -> Predictions, similar(seeds) -> Neighbors; embeddings of
               its tracks; name, dataset, approach, learner, loss, notes
    Run        scores, fold_scores, comparisons, predictions, folds, curves, embeddings, ... (tables); best, notes
    Store      datasets, models, runs (names); tracks(), features() -> Frames, embeddings(model) -> Embeddings

The keywords are the flags of the commands, with underscores for hyphens and ``from_`` for ``--from``; None means that a
flag is not given. The commands call the same functions, so the results are bit-identical.

Tables are `pyarrow.Table`; ``to_pandas()`` returns a data frame if pandas is installed. Arrays are numpy arrays. Errors
that a user can cause or fix are exceptions from `mirembed.errors`. Long calls have the argument ``progress``: True
shows a line of text, False nothing.

Examples
--------
Tones in two folders, which are the classes:

>>> import mirembed, numpy, pathlib, soundfile
>>> for label, pitch in (("low", 220), ("high", 3520)):
...     pathlib.Path("music", label).mkdir(parents=True)
...     for number in range(3):
...         samples = 0.3 * numpy.sin(numpy.arange(11025) * pitch * (1 + number / 50) * 2 * numpy.pi / 22050)
...         soundfile.write(f"music/{label}/{number}.wav", samples, 22050)

From nothing to embeddings, with a tiny network that is trained for one epoch:

>>> done = mirembed.extract("folder", audio="music", jobs=1, progress=False)
>>> tiny = {"network": "gru:hidden=4,units=3", "epochs": 1, "engine": "torch", "jobs": 1, "progress": False}
>>> model = mirembed.fit(similarity="rbf", **tiny)
>>> model.embeddings.vectors.shape
(6, 3)
>>> model.embeddings.to_pandas()[["id", "label"]].head(2).values.tolist()
[['high/0.wav', 'high'], ['high/1.wav', 'high']]

Audio files, in the dataset or not:

>>> model = mirembed.load("folder-rbf-sl")
>>> model.embed("music/low", progress=False).vectors.shape
(3, 3)
>>> predicted = model.predict(["music/low", "music/high/0.wav"], progress=False)
>>> len(predicted.labels), predicted.classes, predicted.probabilities.shape
(4, ('high', 'low'), (4, 2))
>>> model.similar("music/low/0.wav", top=2, progress=False).table["rank"].to_pylist()
[1, 2]

Scores from an evaluation, which fits network and learner inside every fold:

>>> run = mirembed.evaluate(approach=["rbf-sl", "chance"], cv=3, **tiny)
>>> scores = run.scores.to_pandas()
>>> scores[(scores.method == "chance") & (scores.metric == "accuracy")]["mean"].tolist()
[0.5]
>>> mirembed.open_run(run.name).predictions.num_rows
12

The content of the store:

>>> store = mirembed.Store()
>>> store.datasets, store.models, store.tracks()["label"].to_pylist()
(['folder'], ['folder-rbf-sl'], ['high', 'high', 'high', 'low', 'low', 'low'])
>>> frames = store.features()
>>> frames["low/0.wav"].shape, frames.hop
((19, 40), 0.025)
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
