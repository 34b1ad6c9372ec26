"""The parts of the pass `linear_quantize`."""
