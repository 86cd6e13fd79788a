"""Metrics, intervals and significance tests: what every number of a table is computed with."""

from mirembed.statistics.intervals import Interval, bootstrap_interval, nadeau_bengio_error, nadeau_bengio_interval
from mirembed.statistics.metrics import (
    METRICS,
    Metric,
    accuracy,
    headline,
    macro_f1,
    metric_named,
    metrics_for,
    pearson_r,
    pearson_r_defined,
    r2_score,
    r_squared,
)
from mirembed.statistics.significance import (
    TTestResult,
    cohens_d,
    cohens_dz,
    corrected_paired_t_test,
    hedges_g,
    holm,
    mcnemar_test,
    welch_t_test,
)

__all__ = [
    "METRICS",
    "Interval",
    "Metric",
    "TTestResult",
    "accuracy",
    "bootstrap_interval",
    "cohens_d",
    "cohens_dz",
    "corrected_paired_t_test",
    "headline",
    "hedges_g",
    "holm",
    "macro_f1",
    "mcnemar_test",
    "metric_named",
    "metrics_for",
    "nadeau_bengio_error",
    "nadeau_bengio_interval",
    "pearson_r",
    "pearson_r_defined",
    "r2_score",
    "r_squared",
    "welch_t_test",
]
