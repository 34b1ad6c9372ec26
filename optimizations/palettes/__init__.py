"""The parts of the pass `palettize`: optimal palettes, the weights that get one, and how a program holds them."""
