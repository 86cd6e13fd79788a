"""Models: network, learner and provenance, in memory and on disk; embedding and prediction."""
