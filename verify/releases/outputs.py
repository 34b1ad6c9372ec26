"""Both releases run on the same inputs: how far each output moved, measured by the checks that builds are held to."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mil.errors import MilError
from mil.program import Program
from pipeline.tensors import write_tensors
from pipeline.types import Arrays, Measurement, Subject, Tensor
from verify import der, embedding, equality, parity, streaming
from verify.equality import FLAGS
from verify.releases.inputs import examples, window_s
from verify.releases.rows import NORMALISED, Limits, Row, bounded
from verify.scoring.relative import relative

LOG_PROBABILITY, PROBABILITY, EMBEDDING, VALUE = "log probability", "probability", "embedding", "value"
_AXES = {
    LOG_PROBABILITY: ("batch", "frame", "class"),
    PROBABILITY: ("frame", "speaker"),
    EMBEDDING: ("row", "dimension"),
    FLAGS: ("flag",),
    VALUE: ("value",),
}
_CHECKS: dict[str, Callable[[Subject], list[Measurement]]] = {
    LOG_PROBABILITY: parity.measure,
    PROBABILITY: streaming.measure,
    EMBEDDING: embedding.measure,
    FLAGS: equality.measure,
    VALUE: equality.measure,
}
_POWERSET_CLASSES = 7  # speaker sets of at most two of three: what turns can be made of


def compared(
    name: str, old: Program, new: Program, recordings: Sequence[Path], hop_s: float, limits: Limits
) -> Iterator[Row]:
    """Yield how far the outputs of every function of the old release are from those of the new one."""
    for function in old.functions:
        label = f"{name}:{function}" if len(old.functions) > 1 else name
        if function in new.functions:
            yield from _compared(label, function, old, new, recordings, hop_s, limits)


def _compared(
    label: str, function: str, old: Program, new: Program, recordings: Sequence[Path], hop_s: float, limits: Limits
) -> Iterator[Row]:
    before, after = (_run(program, function, old, recordings, hop_s) for program in (old, new))
    if isinstance(before, str):
        note = before if isinstance(after, str) else f"of the old release: {before}"
        yield Row(label, "runs", None, None, "", "both", "not run", (note,))
        return
    if isinstance(after, str):
        yield Row(label, "runs", None, None, "", "both", "fail", (after,))
        return
    yield Row(label, "runs", len(before), len(after), "examples", "both", "pass")
    scored = recordings if hop_s <= window_s(old.inputs(function)) else ()
    for output in old.outputs(function):
        values = [_of(output, found) for found in (before, after)]
        if values[0] and values[1]:
            yield from _output(label, output, values[0], values[1], scored, limits)


Outputs = dict[str, Arrays]  # example → outputs by name


def _run(program: Program, function: str, asked: Program, recordings: Sequence[Path], hop_s: float) -> Outputs | str:
    """Return what a program makes of the inputs that `asked` declares, or why it cannot be run on them."""
    try:
        inputs = examples(asked.inputs(function), recordings, hop_s)
        return {example.name: program.run(example.inputs, function=function) for example in inputs}
    except MilError as error:
        return str(error)


def _of(output: str, found: Outputs) -> Arrays:
    """Return one output by example, where it is one of numbers."""
    values = {example: np.asarray(arrays[output]) for example, arrays in found.items() if output in arrays}
    return {example: array.astype(np.float64) for example, array in values.items() if array.dtype.kind in "fiub"}


def _output(
    label: str, output: str, old: Arrays, new: Arrays, recordings: Sequence[Path], limits: Limits
) -> Iterator[Row]:
    kind = kind_of(output, old)
    apart = next((example for example in old if old[example].shape != new[example].shape), None)
    if apart is not None:
        note = f"{apart}: {list(old[apart].shape)} in the old release, {list(new[apart].shape)} in the new one"
        yield Row(label, f"{output} shape", None, None, "", "equal", "fail", (note,))
        return
    with tempfile.TemporaryDirectory(prefix="quern-") as folder:
        subject = _subject(output, kind, old, new, recordings, Path(folder))
        measured = {measurement.name: measurement for measurement in _CHECKS[kind](subject)}
        yield from _held(label, output, kind, measured, limits)
        yield _relative(label, output, kind, old, new, limits)
        if kind == LOG_PROBABILITY and _by_window(old):
            yield from _errors(label, subject, limits)


def kind_of(output: str, values: Arrays) -> str:
    """Return what an output is, by its values in the old release, and for embeddings by its name."""
    everything = np.concatenate([array.reshape(-1) for array in values.values()])
    arrays = list(values.values())
    if all(array.ndim >= 2 and array.shape[-1] >= 2 for array in arrays) and _are_log_probabilities(arrays):
        return LOG_PROBABILITY
    if "embedding" in output.lower() and all(array.ndim for array in arrays):
        return EMBEDDING
    if np.isin(everything, (0, 1)).all():
        return FLAGS
    return PROBABILITY if ((everything >= 0) & (everything <= 1)).all() else VALUE


def _are_log_probabilities(arrays: Sequence[np.ndarray]) -> bool:
    sums = np.concatenate([np.logaddexp.reduce(array, axis=-1).reshape(-1) for array in arrays])
    return bool((np.abs(sums) <= NORMALISED).all())


def _by_window(values: Arrays) -> bool:
    """Whether examples are windows of recordings, and classes the speaker sets that turns are made of."""
    return all("@" in example and array.shape[-1] == _POWERSET_CLASSES for example, array in values.items())


def _subject(output: str, kind: str, old: Arrays, new: Arrays, recordings: Sequence[Path], folder: Path) -> Subject:
    """Return the old release as the rung in single precision and the new one as the artifact."""
    rungs: dict[str, Path | str] = dict.fromkeys(("upstream", "network"), "releases are held against each other")
    for rung, values in (("float32", old), ("declared", new)):
        shaped = {f"{example}/{output}": _shaped(array, kind) for example, array in values.items()}
        rungs[rung] = folder / f"{rung}.safetensors"
        write_tensors(shaped, folder / f"{rung}.safetensors")
    tensor = Tensor(output, _AXES[kind], (), "float32", kind)
    return Subject((), (tensor,), rungs=rungs, recordings=tuple(recordings))


def _shaped(array: np.ndarray, kind: str) -> np.ndarray:
    """Return probabilities as (frame, speaker), and what has no axes with one."""
    if kind == PROBABILITY:
        return array.reshape(-1, array.shape[-1] if array.ndim else 1)
    return array if array.ndim else array.reshape(1)


def _held(label: str, output: str, kind: str, measured: dict[str, Measurement], limits: Limits) -> Iterator[Row]:
    def row(name: str) -> Row:
        found = measured[name]
        notes = (f"worst window {found.detail['window']}",) if "window" in found.detail else ()
        return Row(label, f"{output} {name}", None, found.value, found.unit, notes=notes)

    yield row("max_difference")
    if kind == LOG_PROBABILITY:
        yield bounded(row("argmax"), least=limits.argmax)
        yield bounded(row("argmax_worst_window"), least=limits.worst_window)
        yield bounded(row("normalised"), most=NORMALISED)
    elif kind == EMBEDDING:
        yield bounded(row("cosine_worst"), least=limits.cosine)
    elif kind in (PROBABILITY, FLAGS):
        yield bounded(row("agreement"), least=limits.agreement)


def _relative(label: str, output: str, kind: str, old: Arrays, new: Arrays, limits: Limits) -> Row:
    """Return rms(new − old) / rms(old) over all examples; log probabilities are compared as probabilities."""
    one, other = (np.concatenate([array.reshape(-1) for array in values.values()]) for values in (old, new))
    if kind == LOG_PROBABILITY:
        one, other = np.exp(one), np.exp(other)
    row = Row(label, f"{output} relative", None, relative(one, other), "share of rms")
    return bounded(row, most=limits.relative)


def _errors(label: str, subject: Subject, limits: Limits) -> Iterator[Row]:
    """Yield how far apart the turns of the two releases are, and what the new one adds to the error against labels."""
    if not subject.recordings:
        note = "windows are further apart than they are long, and leave gaps; choose a smaller --hop"
        yield bounded(Row(label, "diarization cost", None, None, "points", notes=(note,)), most=limits.der)
        return
    measured = {measurement.name: measurement for measurement in der.measure(subject)}
    for name in ("divergence", "error", "cost"):
        found = measured[name]
        row = Row(label, f"diarization {name}", None, found.value, found.unit, notes=_told(found))
        yield bounded(row, most=limits.der) if name == "cost" else row


def _told(found: Measurement) -> tuple[str, ...]:
    return (found.note,) if found.note else ()
