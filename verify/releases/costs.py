"""What a model costs a phone: the weights it downloads, and the activations that are live at once."""

from collections.abc import Iterator

from mil.errors import MilError
from mil.info import describe
from mil.program import Program
from mil.traverse import blobs
from verify.releases.rows import Limits, Row, grown


def costs(name: str, old: Program, new: Program, limits: Limits) -> Iterator[Row]:
    """Yield how large the weight files are, and the peak of live activations in their declared types, in MB of 10^6."""
    yield grown(name, "weights", _weights_mb(old), _weights_mb(new), "MB", limits.size_factor)
    yield grown(name, "activations", _activations_mb(old), _activations_mb(new), "MB", limits.memory_factor)


def _weights_mb(program: Program) -> float | str:
    """Return the size of all weight files that a program refers to, or why it cannot be told."""
    try:
        files = {
            stage.package.blob_path(value.blobFileValue.fileName).resolve()
            for stage in program.stages
            for value in blobs(stage.program)
        }
        return sum(file.stat().st_size for file in files) / 1e6
    except MilError as error:
        return str(error)


def _activations_mb(program: Program) -> float | str:
    """Return the peak of the function that has the largest; sizes known only at run time are measured in a run."""
    try:
        functions = describe(program)
        if any(function.unknown_values for function in functions):
            functions = describe(program, measured=True)
    except MilError as error:
        return str(error)
    return max(function.peak_live_bytes for function in functions) / 1e6
