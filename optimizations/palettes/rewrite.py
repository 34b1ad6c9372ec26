"""A package with palettes in place of its large weights: chosen, made or recalled, written, decoded and compared."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mil.package import Package, read_package
from mil.schema import Model_pb2
from optimizations.palettes import operations, palette
from optimizations.palettes.operations import Parts, decoded, store
from optimizations.palettes.palette import Layout, Weight
from optimizations.palettize import Options
from optimizations.weights.difference import difference, shortened
from optimizations.weights.files import WeightFiles
from optimizations.weights.rewriting import Detached, rewritten
from optimizations.weights.selection import Large, large_weights, require
from pipeline.types import Memo, QuernError


@dataclass(frozen=True)
class Replaced:
    """A weight that has a palette now, and its original value."""

    large: Large
    layout: Layout
    original: np.ndarray
    weight: Weight


def rewrite(source: Path, options: Options, memo: Memo, destination: Path) -> dict[str, Any]:
    """Do what `optimizations.palettize.apply` promises."""
    package = read_package(source)
    spec = Model_pb2.Model()
    spec.CopyFrom(package.spec)
    large = large_weights(spec, package, options.weight_threshold, options.exclude, source)
    _check_target(options, large, source)
    judged = [_judged(each, options) for each in large]
    chosen = {id(each.constant): (each, layout) for each, layout in judged if not each.left_because}
    palettes = _Palettes(memo)
    replaced: list[Replaced] = []

    def hold(detached: Detached, files: WeightFiles) -> None:
        each, layout = chosen[id(detached.constant)]
        weight, parts = palettes.held(each, layout, detached, files)
        operations.replace(detached.constant, parts)
        replaced.append(Replaced(each, layout, detached.original, weight))

    sizes = rewritten(spec, package, [each.constant for each, _ in chosen.values()], hold, destination)
    return {
        "weights": compared(replaced, read_package(destination)),
        "left": [
            {"name": each.label, "shape": list(each.shape), "reason": each.left_because}
            for each, _ in judged
            if each.left_because
        ],
        "weight_bytes": sizes,
    }


def _judged(large: Large, options: Options) -> tuple[Large, Layout]:
    """Return a weight, left if its channels cannot be grouped as asked, and the layout of its palettes."""
    layout = Layout(options.nbits)
    if large.left_because or (options.granularity == "per_tensor" and not options.per_channel_scale):
        return large, layout
    if large.channel_axis is None:
        return replace(large, left_because="its uses disagree on which axis counts output channels"), layout
    channels = large.shape[large.channel_axis]
    group_size = options.group_size if options.granularity == "per_grouped_channel" else channels
    if channels % group_size:
        reason = f"its {channels} output channels are not a multiple of {group_size}"
        return replace(large, left_because=reason), layout
    return large, Layout(options.nbits, large.channel_axis, channels // group_size, options.per_channel_scale)


def _check_target(options: Options, large: Sequence[Large], source: Path) -> None:
    """Refuse what the target lacks; an iOS 16 palette knows indices of 1, 2, 4, 6 and 8 bits and no groups."""
    require(6, "palettes", large, source)
    if options.nbits == 3:
        require(8, "3-bit palettes", large, source)
    if options.granularity == "per_grouped_channel":
        require(8, "palettes per grouped channel", large, source)
    if options.per_channel_scale:
        require(9, "scales after a palette", large, source)


class _Palettes:
    """The palettes of one package in the making: equal weights are clustered once and held once in each file."""

    def __init__(self, memo: Memo) -> None:
        self._memo = memo
        self._weights: dict[str, Weight] = {}
        self._held: dict[tuple, Parts] = {}

    def held(self, large: Large, layout: Layout, detached: Detached, files: WeightFiles) -> tuple[Weight, Parts]:
        key, weight = self._palettized(large, layout, detached.original)
        newer = large.opset >= 8
        place = (detached.file_name, key, large.shape, newer)
        if place not in self._held:
            self._held[place] = store(weight, layout, large.shape, newer, files, detached.file_name)
        return weight, self._held[place]

    def _palettized(self, large: Large, layout: Layout, original: np.ndarray) -> tuple[str, Weight]:
        """Return the key of a weight's palette and the palette, made now or recalled."""
        recipe = palette.recipe(original, layout)
        key = repr(sorted(recipe.items()))

        def make(folder: Path) -> None:
            self._weights[key] = palette.make(original, layout)
            palette.save(self._weights[key], folder)

        if key not in self._weights:
            try:
                folder = self._memo(recipe, make)
            except ValueError as error:
                raise QuernError(f"weight `{large.label}`: {error}") from None
            if key not in self._weights:
                self._weights[key] = palette.load(folder)
        return key, self._weights[key]


def compared(replaced: Sequence[Replaced], written: Package) -> list[dict[str, Any]]:
    """Return how far each weight, decoded from the files that were written, is from its original."""
    findings = []
    for each in replaced:
        constant = each.large.constant
        found = difference(each.original, decoded(constant.operation, constant.block, written))
        if not palette.is_faithful(each.weight, each.original, found):
            raise QuernError(
                f"weight `{each.large.label}`: decoded values differ from the original by {found.rms:g} rms, and "
                f"its palette was made with a squared error of {each.weight.squared_error:g}; the palette that the "
                "store keeps is damaged or belongs to another weight"
            )
        facts = {"name": each.large.label, "shape": list(each.large.shape), "nbits": each.layout.nbits}
        findings.append(facts | {"groups": each.layout.groups} | shortened(found))
    return findings
