"""A package with palettes of several widths: measured, chosen, written, decoded and compared."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from mil.package import read_package
from mil.program import Program
from mil.schema import Model_pb2
from optimizations.mixed import search
from optimizations.mixed.allocation import held_bytes
from optimizations.mixed.held import Held, Subject, changed, held, load, save
from optimizations.mixed.layers import layer_of
from optimizations.mixed.moments import Moments, collect
from optimizations.mixed.outputs import Loss, loss, package_with, run
from optimizations.mixed.palettes import Palettes
from optimizations.mixed_palette import WHOLE, Options, calibrated
from optimizations.palettes import operations
from optimizations.palettes.palette import Layout
from optimizations.palettes.rewrite import Replaced, compared
from optimizations.weights.constants import constants, top_blocks
from optimizations.weights.files import WeightFiles
from optimizations.weights.rewriting import Detached, rewritten, size_bytes, value_of
from optimizations.weights.selection import Large, large_weights, require
from pipeline.types import Arrays, Calibration, Example, Memo, QuernError

# Of each recording, for search and measurement.
_WINDOWS_PER_RECORDING = 14
_DIGITS = 4


def rewrite(
    source: Path, options: Options, memo: Memo, destination: Path, calibration: Calibration | None
) -> dict[str, Any]:
    """Do what `optimizations.mixed_palette.apply` promises."""
    subject = _subject(source, options)
    if calibration is None:
        if calibrated(options):
            raise QuernError(f"{source}: mixed_palette measures on recordings, and there are none; give --audio DIR")
        chosen = _pinned(subject, options.assignment, source)
        palettes = Palettes(subject.originals, {}, memo)
        return {"decided": {"assignment": chosen}} | _written(subject, held(subject, chosen, palettes), destination)
    heard = _Heard(subject, calibration, options.compensate, memo)
    findings: dict[str, Any] = {}
    if options.assignment:
        chosen = _pinned(subject, options.assignment, source)
    else:
        costs = _costs(heard, options, memo)
        rest = size_bytes(subject.package) - sum(_whole_bytes(each) for each in subject.large)
        choices = search.choices(subject.large, costs)
        front = search.find(choices, rest, options, lambda widths: heard.loss(widths).argmax)
        chosen = dict(front.chosen.widths)
        if options.size_mb is not None:
            most = options.size_mb * 1e6 - rest
            chosen = search.exchanged(
                choices, most, chosen, lambda widths: heard.loss(widths).typical, calibration.tell
            )
        findings["sensitivity"] = {name: {str(w): _short(c) for w, c in each.items()} for name, each in costs.items()}
        findings["curve"] = [[each.size_bytes, _short(each.cost)] for each in front.curve]
    findings["decided"] = {"assignment": chosen}
    found = held(subject, chosen, heard.palettes)
    if options.distill and found.weights:
        findings["measured_before"] = heard.measured(found)
        found = heard.distilled(found, options.distill)
    findings["measured"] = heard.measured(found)
    return findings | _written(subject, found, destination)


def _subject(source: Path, options: Options) -> Subject:
    package = read_package(source)
    spec = Model_pb2.Model()
    spec.CopyFrom(package.spec)
    found = large_weights(spec, package, options.weight_threshold, options.exclude, source)
    require(6, "palettes", found, source)
    if 3 in (*options.widths, *options.assignment.values()):
        require(8, "3-bit palettes", found, source)
    functions = sorted({name for name, _, _ in top_blocks(spec)})
    if len(functions) > 1:
        raise QuernError(f"{source}: mixed_palette measures one function, and the program has {', '.join(functions)}")
    by_name = {each.name: each for _, _, block in top_blocks(spec) for each in constants(block)}
    large = [each for each in found if not each.left_because]
    return Subject(
        package,
        spec,
        functions[0],
        {each.label: layer_of(each, by_name, package) for each in large},
        [each for each in found if each.left_because],
        {each.label: value_of(each.constant, package) for each in large},
    )


def _pinned(subject: Subject, assignment: Mapping[str, int], source: Path) -> dict[str, int]:
    """Return a given assignment; raises QuernError unless it names all large weights and nothing else."""
    unknown, missing = (
        sorted(assignment.keys() - subject.layers.keys()),
        sorted(subject.layers.keys() - assignment.keys()),
    )
    if unknown:
        raise QuernError(f"{source}: assignment: `{unknown[0]}` is no large weight of this program")
    if missing:
        raise QuernError(f"{source}: assignment: no width for `{missing[0]}`; give {WHOLE} to leave it as it is")
    return dict(assignment)


def _whole_bytes(large: Large) -> int:
    return held_bytes(large.size, WHOLE, np.dtype(large.type.element.numpy).itemsize, WHOLE)


class _Heard:
    """A package on its recordings: what its weights see, and what it loses under an assignment."""

    def __init__(self, subject: Subject, calibration: Calibration, compensate: bool, memo: Memo) -> None:
        self.subject, self.calibration, self.memo = subject, calibration, memo
        self.program = Program(subject.package)
        self.seen = search.by_recording(calibration.calibrate, _WINDOWS_PER_RECORDING)
        self.held_out = search.by_recording(calibration.held_out, _WINDOWS_PER_RECORDING)
        self.palettes = Palettes(subject.originals, self._moments() if compensate else {}, memo)
        self._references = self._run(self.program, self.seen)

    def _moments(self) -> dict[str, Moments]:
        heard = self.seen
        if self.calibration.varied is not None:
            heard = search.by_recording(self.calibration.varied, search.WINDOWS_PER_VARIATION)
        layers = self.subject.layers
        wanted = {label: layer.features for label, layer in layers.items() if layer.features}
        found = collect(self.program, self.subject.function, heard, list(set(wanted.values())), self.calibration.run)
        return {label: found[features] for label, features in wanted.items() if features in found}

    def loss(self, widths: Mapping[str, int]) -> Loss:
        """Return what the outputs lose on windows of calibration."""
        return self._loss(held(self.subject, widths, self.palettes), self.seen, self._references)

    def measured(self, palettes: Held) -> dict[str, Any]:
        """Return what the outputs lose on the windows of calibration and on those held out."""
        return {"calibration": self._measured(palettes, self.seen), "held_out": self._measured(palettes, self.held_out)}

    def facts(self, what: str) -> dict[str, Any]:
        """Return all that decides what is found by listening to this package, for the store."""
        return {
            what: sha256(self.subject.package.spec.SerializeToString(deterministic=True)).hexdigest(),
            "weights": [sha256(np.ascontiguousarray(w).data).hexdigest() for w in self.subject.originals.values()],
            "examples": self.calibration.facts,
        }

    def distilled(self, start: Held, steps: int) -> Held:
        """Return palettes fine-tuned from these: made now or recalled."""
        facts = self.facts("distilled") | {"start": start.digest(), "steps": steps}

        def make(folder: Path) -> None:
            from optimizations.mixed import checkpoint
            from optimizations.mixed.distillation import distilled

            save(distilled(self.subject, start, steps, self.calibration, folder), folder)
            checkpoint.drop(folder)

        return load(self.memo(facts, make, resumes=True))

    def _measured(self, palettes: Held, examples: Sequence[Example]) -> dict[str, Any] | str:
        if not examples:
            return "not measured: there are too few recordings to hold one out"
        found = self._loss(palettes, examples, self._run(self.program, examples))
        return {"windows": len(examples)} | {k: v if v is None else _short(v) for k, v in asdict(found).items()}

    def _loss(self, palettes: Held, examples: Sequence[Example], reference: Sequence[Arrays]) -> Loss:
        program = Program(package_with(self.subject.package, changed(self.subject, palettes)))
        return loss(reference, self._run(program, examples), self.calibration.outputs)

    def _run(self, program: Program, examples: Sequence[Example]) -> list[Arrays]:
        return run(program, self.subject.function, examples, self.calibration.run)


def _costs(heard: _Heard, options: Options, memo: Memo) -> dict[str, dict[int, float]]:
    """Return what each weight at each width costs, measured once for all sizes of one package."""
    facts = heard.facts("sensitivity") | {"widths": sorted(set(options.widths)), "compensate": options.compensate}

    def make(folder: Path) -> None:
        tell = heard.calibration.tell
        search.save(search.measured(heard.subject.large, options.widths, heard.loss, tell), folder)

    return search.load(memo(facts, make))


def _written(subject: Subject, palettes: Held, destination: Path) -> dict[str, Any]:
    """Write the package, decode every palette again and hold it against its original."""
    layers = [layer for label, layer in subject.layers.items() if label in palettes.weights]
    weights = {id(layer.large.constant): layer for layer in layers}
    biases = [layer.bias for layer in layers if layer.bias and layer.bias.name in palettes.biases]
    replaced: list[Replaced] = []

    def hold(detached: Detached, files: WeightFiles) -> None:
        layer = weights.get(id(detached.constant))
        if layer is None:
            new = files.array(palettes.biases[detached.constant.name], detached.file_name)
            detached.constant.operation.attributes["val"].CopyFrom(new)
            return
        large, weight = layer.large, palettes.weights[layer.large.label]
        layout = Layout(weight.nbits)
        parts = operations.store(weight, layout, large.shape, large.opset >= 8, files, detached.file_name)
        operations.replace(detached.constant, parts)
        replaced.append(Replaced(large, layout, detached.original, weight))

    chosen = [layer.large.constant for layer in layers] + list({bias.name: bias for bias in biases}.values())
    sizes = rewritten(subject.spec, subject.package, chosen, hold, destination)
    left = [{"name": each.label, "shape": list(each.shape), "reason": each.left_because} for each in subject.left]
    left += [
        {"name": label, "shape": list(layer.large.shape), "reason": "assigned its own precision"}
        for label, layer in subject.layers.items()
        if label not in palettes.weights
    ]
    return {"weights": compared(replaced, read_package(destination)), "left": left, "weight_bytes": sizes}


def _short(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}")
