"""Metrics, confidence intervals and significance tests, which compute the numbers of all tables.

The tests and effect sizes can be imported from here; `mirembed.statistics.metrics` has the metrics.
"""

from mirembed.statistics.significance import (
    cohens_d,
    cohens_dz,
    corrected_paired_t_test,
    hedges_g,
    holm,
    mcnemar_test,
    welch_t_test,
)

__all__ = ["cohens_d", "cohens_dz", "corrected_paired_t_test", "hedges_g", "holm", "mcnemar_test", "welch_t_test"]
