"""Core ML programs without a Mac: read, run and compare them.

program = mil.load("model.mlpackage")
outputs = program.run({"x": x}, precision="declared")
"""

from mil.errors import MilError
from mil.program import Program, load

__all__ = ["MilError", "Program", "load"]
