"""Speed and memory use of mirembed, compared with a naive program on the same data.

There are three commands, each with ``--help``; `docs/performance.md` gives the results::

    python -m benchmarks.speed      training, all of evaluate, and embedding, compared with `benchmarks.naive`
    python -m benchmarks.scaling    time against tracks, folds and workers
    python -m benchmarks.memory     peak memory, and training from frames that do not fit into memory
"""
