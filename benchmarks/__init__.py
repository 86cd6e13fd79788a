"""How fast mirembed is, beside the obvious program on the same data, and how much memory it takes.

Three commands, each with ``--help``; `docs/performance.md` says what they found::

    python -m benchmarks.speed      training, the whole of evaluate, and embedding, against `benchmarks.naive`
    python -m benchmarks.scaling    time against tracks, folds and workers
    python -m benchmarks.memory     peak memory, and training from frames that memory does not hold
"""
