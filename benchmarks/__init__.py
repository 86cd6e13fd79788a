"""Compare the speed and memory of mirembed with those of a naive program on the same data.

Three commands, each with ``--help``; their results are in `docs/performance.md`::

    python -m benchmarks.speed      training, all of evaluate, and embedding, compared with `benchmarks.naive`
    python -m benchmarks.scaling    time against tracks, folds and workers
    python -m benchmarks.memory     peak memory, and training from frames that do not fit into memory
"""
