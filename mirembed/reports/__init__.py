"""The report on a run: an HTML page, its figures as PNG and SVG, and its tables as CSV and LaTeX."""
