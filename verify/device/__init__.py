"""A Mac asked about a compiled model, through coremltools: whether it loads, where it runs, how fast, in how much."""
