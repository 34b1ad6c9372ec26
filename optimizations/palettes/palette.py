"""The palette of one weight: made by optimal k-means, kept as files, and held against the weight."""

import math
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from mil.packing import pack, unpack
from mil.types import BY_NAME
from optimizations.palettes.kmeans import Palette, cluster
from optimizations.weights.difference import Difference

_FILE = "palette.npz"


@dataclass(frozen=True)
class Layout:
    """How the values of a weight share palettes.

    nbits       width of an index; a palette has 2^nbits entries
    axis        the axis of output channels, along which groups and scales lie
    groups      how many palettes, each for as many neighbouring channels; 1: one for the whole tensor
    scaled      whether each channel is divided by its largest magnitude first
    """

    nbits: int
    axis: int = 0
    groups: int = 1
    scaled: bool = False


@dataclass(frozen=True)
class Weight:
    """What a program holds in place of a weight.

    indices         packed indices in row-major order of the weight, uint8
    entries         (groups, 2^nbits)  the weight's type, ascending in each group
    scales          (channels,)  the weight's type; None where they are all one
    squared_error   against the weight, before the product with the scales is rounded
    """

    indices: np.ndarray
    entries: np.ndarray
    scales: np.ndarray | None
    squared_error: float

    @property
    def nbits(self) -> int:
        return self.entries.shape[1].bit_length() - 1


def recipe(weight: np.ndarray, layout: Layout) -> dict[str, Any]:
    """Return all that a palette depends on, for the store: one palette for the whole tensor knows no shape."""
    facts: dict[str, Any] = {
        "palette": sha256(np.ascontiguousarray(weight).data).hexdigest(),
        "dtype": str(weight.dtype),
        "nbits": layout.nbits,
    }
    if layout.groups > 1 or layout.scaled:
        facts |= {"shape": list(weight.shape), "axis": layout.axis, "groups": layout.groups, "scaled": layout.scaled}
    return facts


def make(weight: np.ndarray, layout: Layout) -> Weight:
    """Return the palettes of a weight, fp16 or fp32, with the least squared error each.

    Scaled channels are clustered by their quotients, with the square of the scale as importance, so that it is the
    error of the weight itself that is least. Raises ValueError for a weight with nan or infinite values.
    """
    channels = np.moveaxis(weight, layout.axis, 0)
    rows = channels.reshape(channels.shape[0], -1)  # (channel, value)
    scales = _scales(rows) if layout.scaled else None
    palettes = [
        _palette(rows[chosen], None if scales is None else scales[chosen], layout.nbits)
        for chosen in np.split(np.arange(len(rows)), layout.groups)
    ]
    indices = np.concatenate([palette.indices for palette in palettes]).reshape(channels.shape)
    return Weight(
        pack(np.moveaxis(indices, 0, layout.axis), BY_NAME[f"uint{layout.nbits}"]),
        np.stack([palette.entries for palette in palettes]),
        scales,
        sum(palette.squared_error for palette in palettes),
    )


def _scales(rows: np.ndarray) -> np.ndarray:
    if not np.isfinite(rows).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(rows))} of {rows.size} values are nan or infinite")
    return np.abs(rows).max(axis=1)


def _palette(rows: np.ndarray, scales: np.ndarray | None, nbits: int) -> Palette:
    if scales is None or not scales.any():
        return cluster(rows, 1 << nbits)
    wide = scales[:, None].astype(np.float32)
    importance = np.broadcast_to(wide.astype(np.float64) ** 2, rows.shape)
    quotients = rows.astype(np.float32) / np.where(wide == 0, np.float32(1), wide)
    return cluster(quotients, 1 << nbits, importance, entry_type=rows.dtype)


def save(weight: Weight, folder: Path) -> None:
    """Write a palettized weight into a folder; equal weights are equal bytes."""
    arrays = {"indices": weight.indices, "entries": weight.entries, "squared_error": np.array(weight.squared_error)}
    if weight.scales is not None:
        arrays["scales"] = weight.scales
    np.savez(folder / _FILE, **arrays)  # type: ignore[arg-type]


def load(folder: Path) -> Weight:
    """Return the palettized weight that `save` wrote into the folder."""
    with np.load(folder / _FILE) as arrays:
        return Weight(arrays["indices"], arrays["entries"], arrays.get("scales"), float(arrays["squared_error"]))


def indices_of(weight: Weight, shape: tuple[int, ...]) -> np.ndarray:
    """Return the index of each value of a weight that has one palette, in the weight's shape."""
    return unpack(weight.indices, BY_NAME[f"uint{weight.nbits}"], math.prod(shape)).reshape(shape)


def values_of(weight: Weight, shape: tuple[int, ...]) -> np.ndarray:
    """Return what a weight that has one palette is decoded to."""
    return weight.entries[0][indices_of(weight, shape)]


def is_faithful(weight: Weight, original: np.ndarray, found: Difference) -> bool:
    """Whether decoded values are as far from the original as their palette says.

    They may be further by the rounding of their product with the scales: half a unit in the last place of each.
    """
    claimed_rms = math.sqrt(weight.squared_error / original.size)
    return bool(abs(found.rms - claimed_rms) <= np.finfo(original.dtype).eps * found.original_rms)
