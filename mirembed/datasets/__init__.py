"""Datasets: what plugins list, what is wrong with a copy, how to get one, and how its tracks are split."""
