"""What a GGUF file holds."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.types import Arrays


@dataclass(frozen=True)
class Contents:
    """An architecture by name, its keys of unsigned 32-bit type, and tensors, whose types are theirs."""

    architecture: str
    keys: Mapping[str, int]
    tensors: Arrays
