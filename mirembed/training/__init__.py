"""A network and its training: excerpts, label vectors, losses, loop, optimizer, checkpoints and engine."""
