"""What a plugin module has to offer, by folder. A plugin is a plain module; its file name is its name in variants.yaml.

The top level of a plugin imports nothing heavy (torch, coremltools): reading the matrix imports every plugin it names.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pipeline.types import Arrays, Example, Measurement, Memo, Recording, Runner, Subject, Tensor


class Network(Protocol):
    """`converters/models/<name>.py`: one network.

    FILES   the sets of file names a checkpoint may consist of, the preferred first; a name may be a pattern that one
            file matches, such as "*.nemo"; ((),) for a network without weights
    Form    dataclass of the options that a variant's `form` may set

    A network may have some functions more:

    sidecars(state, form) -> dict[str, bytes]         files that stand beside the artifact, by name
    drive(runner, inputs, form) -> Arrays             how one example is run where a call of the runner is not enough,
                                                      as when the outputs of one call are inputs of the next
    is_recorded(form, thorough) -> bool               whether examples are those that `recorded` makes
    recorded(state, form, recordings) -> Iterator[Example]     examples that our own network has to make
    predictions(runner, blocks, form) -> Iterator[np.ndarray]  who speaks in a recording that is given in blocks of
                                                      samples: (frame, speaker) probabilities, FRAME_S seconds each
    """

    FILES: tuple[tuple[str, ...], ...]
    Form: type

    def inputs(self, form: Any) -> tuple[Tensor, ...]:
        """Return the inputs of the network in this form, in the order of the module's arguments."""

    def outputs(self, form: Any) -> tuple[Tensor, ...]:
        """Return the outputs, in the order that the module returns them."""

    def read(self, files: dict[str, Path]) -> Arrays:
        """Return the tensors of a checkpoint, by name, every one checked; raises QuernError for anything unexpected."""

    def synthetic(self, seed: int) -> Arrays:
        """Return a seeded stand-in of the true architecture and size, the same bytes on every machine."""

    def load(self, state: Arrays, form: Any) -> Any:
        """Return our network as a traceable torch module in evaluation mode."""

    def reference(self, state: Arrays, form: Any) -> Runner:
        """Return upstream's own code, untouched, with these weights; raises ImportError where it is not installed."""

    def examples(self, form: Any, recordings: Sequence[Recording], thorough: bool = False) -> Iterator[Example]:
        """Yield the inputs that parity is measured on, in a fixed order; more of them if `thorough`."""

    def metadata(self, form: Any) -> dict[str, str]:
        """Return the strings that the artifact carries for the apps that load it."""


class Format(Protocol):
    """`converters/formats/<name>.py`: one target format.

    Options   dataclass of what a variant's `convert` may set
    SUFFIX    of the artifact that `convert` writes
    RUNNER    what `runner` runs artifacts with, as people know it
    TOOLS     the packages beside torch and numpy whose versions decide its bytes and its outputs

    A format whose apps choose where an artifact runs names the choices, which a variant may recommend:

    COMPUTE_UNITS   tuple of their names

    A format whose artifacts can have several functions has one function more:

    merge(artifacts, default, destination)     write one artifact whose functions are others, by name

    A format whose artifacts can be followed operation by operation has one function more:

    parting(exact, artifact, inputs) -> str    say at which operation an artifact parts from the one that it was made of
    """

    Options: type
    SUFFIX: str
    RUNNER: str
    TOOLS: tuple[str, ...]

    def convert(
        self,
        module: Any,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        metadata: Mapping[str, str],
        options: Any,
        destination: Path,
    ) -> None:
        """Write the torch module as an artifact of this format.

        `module.trained` holds the tensors of the checkpoint that it was made of, for formats that carry those.
        """

    def label(self, artifact: Path, strings: Mapping[str, str], destination: Path) -> None:
        """Write a copy of an artifact that says more of itself, and computes the same."""

    def missing(self) -> str:
        """Return what to type where an optional dependency of the format is not installed; else an empty string.

        Nothing is imported to find out. Without it, the format's variants are not run, and asking for them is an error.
        """

    def exact(self, options: Any) -> Any:
        """Return the options that convert without loss of precision: the rung before the declared one."""

    def compiler(self, choice: str) -> dict[str, str]:
        """Return the compiler that `compile` will use here, and its version; empty where the format has none."""

    def compile(self, artifact: Path, name: str, choice: str, destination: Path) -> None:
        """Write the compiled form of an artifact, called `name`, into the folder `destination`."""

    def runner(self, artifact: Path, precision: str) -> Runner:
        """Return the artifact as a function; precision is "declared" or "float32"."""


class OptimizationPass(Protocol):
    """`optimizations/<name>.py`: one pass over a converted program.

    Options   dataclass of what a variant may set
    """

    Options: type

    def apply(self, source: Path, options: Any, memo: Memo, destination: Path) -> dict[str, Any]:
        """Write the optimized program to `destination` and return what was found; "decided" goes into the manifest.

        A module that has `calibrated(options)` is given one more argument, `calibration`: a Calibration where that
        is true and there are recordings, else None.
        """


class Check(Protocol):
    """`verify/<name>.py`: one check. It measures; variants.yaml holds the limits.

    MEASURES   name of each measurement → its unit
    NEEDS      what of the subject it looks at: "package", "bundle", "functions", "sidecars", "outputs",
               "recordings"
    """

    MEASURES: dict[str, str]
    NEEDS: tuple[str, ...]

    def measure(self, subject: Subject) -> list[Measurement]:
        """Return one measurement for each of MEASURES that applies, with value None where it could not be made."""
