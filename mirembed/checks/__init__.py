"""What is wrong with a dataset, before anyone trains on it."""

from mirembed.checks.check import Report, check
from mirembed.checks.findings import Finding

__all__ = ["Finding", "Report", "check"]
