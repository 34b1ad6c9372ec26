"""The parts of the pass `mixed_palette`: what the weights see, what they lose, and who gets how many bits."""
