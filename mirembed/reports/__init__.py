"""The report on a run: an HTML page, its figures as PNG and SVG, and its tables as CSV and LaTeX."""

from mirembed.reports.report import WrittenReport, write_report

__all__ = ["WrittenReport", "write_report"]
