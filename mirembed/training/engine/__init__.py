"""What computes embeddings and their gradients: the fused kernel ``numba``, or ``torch``'s own `torch.nn.GRU`.

Both have the same weights, the same excerpts and the same loss; their numbers differ by rounding. Nothing that is
stored depends on the engine, but a run that was begun with one is never finished with the other.
"""

from mirembed.training.engine.choice import Engine, choose_engine, import_engine, make_engine, prepare_engine

__all__ = ["Engine", "choose_engine", "import_engine", "make_engine", "prepare_engine"]
