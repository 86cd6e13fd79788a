"""The report of a run: one HTML page, its figures as PNG and SVG, its tables as CSV and LaTeX."""

from mirembed.reports.report import Written, write_report

__all__ = ["Written", "write_report"]
