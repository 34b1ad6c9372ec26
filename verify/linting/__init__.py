"""A static lint of Core ML programs: what would leave the Neural Engine, fail to load, or lose precision, and why."""
