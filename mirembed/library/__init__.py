"""A library of music: its tracks with their embeddings, kept up to date, and what can be done with them."""
