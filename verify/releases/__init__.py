"""Two releases held against each other: what the new one does worse than the old one, model by model."""
