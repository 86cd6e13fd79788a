"""``mirembed predict``."""

from __future__ import annotations

from mirembed.cli import options
from mirembed.cli.embed import Out, embed_paths, failures_json, finish


def predict(
    model: options.ModelName,
    paths: options.AudioPaths,
    store: options.StoreFolder = options.DEFAULT_STORE,
    out: Out = None,
    jobs: options.Jobs = None,
    json: options.Json = False,
) -> None:
    """Predict the class or the targets of audio files. They need no labels."""
    from mirembed.audio.files import printable
    from mirembed.cli.output import print_json, print_table
    from mirembed.models.inference import check_suffix, write_predictions
    from mirembed.models.model import named_predictions

    check_suffix(out)
    loaded, result = embed_paths(model, paths, store, jobs)
    predictions = named_predictions(loaded.task, loaded.predict(result.embeddings))
    rows = [{"path": printable(path), **values} for path, values in zip(result.paths, predictions, strict=True)]
    if out is not None:
        write_predictions(out, rows, loaded.task)
    if json:
        print_json({"predictions": rows, "failures": failures_json(result)})
    elif out is None and rows:
        cells = [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
        print_table(list(rows[0]), cells)
    finish(result, out)
