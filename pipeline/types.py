"""The few records that travel along the straight line, from variants.yaml to the manifest."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

Arrays = dict[str, np.ndarray]

# Upstream's network, ours, a Core ML program, an ONNX graph: each is a function from named arrays to named arrays.
Runner = Callable[[Arrays], Arrays]

Outcome = Literal["pass", "fail", "not run"]


@dataclass(frozen=True)
class Range:
    """An axis whose length the caller chooses, between two bounds, both included."""

    low: int
    high: int


@dataclass(frozen=True)
class Tensor:
    """One named input or output of a network.

    axes    what each axis counts, e.g. ("batch", "frame", "class")
    shape   the length of each axis, or its Range
    dtype   "float32", "float16" or "int32"
    unit    what a value means: "sample", "log probability", "embedding" …
    """

    name: str
    axes: tuple[str, ...]
    shape: tuple[int | Range, ...]
    dtype: str
    unit: str


@dataclass(frozen=True)
class Example:
    """One named set of inputs that a network is run on; the name says where it comes from."""

    name: str
    inputs: Arrays


@dataclass(frozen=True)
class Recording:
    """A mono recording: float32 samples at `rate_hz`, its file's name without suffix, and the digest of the file."""

    name: str
    samples: np.ndarray
    rate_hz: int
    digest: str


@dataclass(frozen=True)
class Artifact:
    """A finished folder in the store and the digest of what it holds."""

    path: Path
    digest: str


@dataclass(frozen=True)
class Step:
    """Work that is done once for each recipe: `run` writes its results into the empty folder that it is given.

    inputs    the artifacts that `run` reads; their digests stand in the recipe
    resumes   the folder is not empty where an earlier run of the same recipe was killed: it is as that run left it
    """

    name: str
    recipe: Mapping[str, Any]
    run: Callable[[Path], None]
    inputs: tuple[Artifact, ...] = ()
    resumes: bool = False


@dataclass(frozen=True)
class Taken:
    """A step as one variant took it: its stage, its key, and how long it took if it had to be built."""

    stage: str
    name: str
    key: str
    seconds: float | None


class Memo(Protocol):
    """What a pass keeps in the store, and recalls from there."""

    def __call__(self, recipe: Mapping[str, Any], run: Callable[[Path], None], /, resumes: bool = False) -> Path:
        """Return the folder whose files `run` wrote for this recipe, now or long before; `resumes` as for a Step."""


def called(runner: Runner, inputs: Arrays) -> Arrays:
    """Run an example by one call."""
    return runner(inputs)


@dataclass(frozen=True)
class Calibration:
    """Real inputs that a pass may run a program on.

    calibrate, held_out   begin the examples of some recordings, and those of the others; the latter may be none
    outputs               what the program puts out
    facts                 all that decides the examples and how they are run, for recipes
    run                   runs a whole example: one call, or as many as the network's own way of running it makes
    varied                begins examples of variations of the recordings that are calibrated on, where they are made
    near                  begins examples of the n-th variation that stays near, of each in turn, where they are made
    tell                  says, while a pass takes long, how far it is
    """

    calibrate: Callable[[], Iterator[Example]]
    held_out: Callable[[], Iterator[Example]]
    outputs: tuple[Tensor, ...]
    facts: Mapping[str, Any]
    run: Callable[[Runner, Arrays], Arrays] = called
    varied: Callable[[], Iterator[Example]] | None = None
    near: Callable[[int], Iterator[Example]] | None = None
    tell: Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class Subject:
    """What a check looks at; only what it says it needs is filled in.

    package, bundle   the artifact and its compiled form
    functions         the packages that the artifact's functions were made of, by function, where it has several
    sidecars          the folder of the files that stand beside the artifact; None where there are none
    rungs             the ladder from the reference to the artifact: name → file of outputs, or the reason why
                      there is none; files hold one array per "<example>/<output>"
    recordings        what the rungs were run on; labels may lie beside them
    weights           "trained", "synthetic" or "none"
    options           the check's own Options, as the variant sets them; None where it has none
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    package: Path | None = None
    bundle: Path | None = None
    functions: Mapping[str, Path] = field(default_factory=dict)
    sidecars: Path | None = None
    rungs: Mapping[str, Path | str] = field(default_factory=dict)
    recordings: tuple[Path, ...] = ()
    weights: str = "trained"
    options: Any = None


@dataclass(frozen=True)
class Measurement:
    """What a check found: a number, or None with the reason why there is none.

    detail   what a reader needs to find the place: the worst window, counts, names
    """

    name: str
    value: float | None
    unit: str
    note: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Limit:
    """How large or small a measurement may be, why, and what it blocks when it has not been made.

    measurement   "<check>.<name>" of the measurement it bounds
    least, most   the bounds for trained weights, either may be None; `synthetic` holds the pair for stand-ins
    """

    measurement: str
    least: float | None
    most: float | None
    synthetic: tuple[float | None, float | None]
    unit: str
    reason: str
    required: Literal["build", "publish"] | None


@dataclass(frozen=True)
class CheckResult:
    """A measurement held against its limit."""

    name: str
    measured: float | None
    limit: str
    unit: str
    outcome: Outcome
    note: str
    required: Literal["build", "publish"] | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pass:
    """An optimization by name, with its options."""

    name: str
    options: Any


@dataclass(frozen=True)
class Checkpoint:
    """Where a network's weights come from.

    hub_files   path in the hub repository → sha256 of the file
    parts       the checkpoints of a fused network's stages; such a checkpoint has no files of its own
    """

    id: str
    network: str
    licence: str
    repository: str
    revision: str
    gated: bool
    hub_files: Mapping[str, str]
    parts: "tuple[Checkpoint, ...]" = ()


@dataclass(frozen=True)
class Place:
    """Where an artifact is published.

    repository   on the hub, as "name" or "owner/name"
    path         folder in it for the package, the bundle and what stands beside them; "" is its root
    limit_mb     how large all of them may be together, in MB of 10^6 bytes
    """

    repository: str
    path: str
    limit_mb: float


@dataclass(frozen=True)
class ComputeUnits:
    """Where a device should run an artifact, in the words of its format, and who found that out."""

    recommend: str
    source: str

    def __post_init__(self) -> None:
        if not self.source.strip():
            raise ValueError("source: expected who says so, found nothing")


@dataclass(frozen=True)
class Variant:
    """One artifact that variants.yaml declares: which weights, in which form, how small, how good.

    functions       for an artifact of several functions, the variant that each of them is, the default first
    check_options   of the checks that are set for this variant, their Options
    publish         None where nothing names a place: such an artifact stays here
    compute_units   None where nobody has published any
    on_request      built only where a pattern asks for it
    """

    name: str
    file: str
    checkpoint: Checkpoint
    network: str
    form: Any
    format: str
    convert: Any
    optimize: tuple[Pass, ...]
    checks: tuple[str, ...]
    limits: tuple[Limit, ...]
    functions: "Mapping[str, Variant]" = field(default_factory=dict)
    check_options: Mapping[str, Any] = field(default_factory=dict)
    publish: Place | None = None
    compute_units: ComputeUnits | None = None
    on_request: bool = False

    @property
    def id(self) -> str:
        return f"{self.checkpoint.id}/{self.name}"


class QuernError(Exception):
    """Something outside our code is wrong; the text is one clear sentence and `status` the exit status it deserves."""

    status = 2


class EnvironmentTroubleError(QuernError):
    """Disk, network or weights are not to be had."""

    status = 4
