"""The palette of each weight at each width, made when it is first asked for."""

from collections.abc import Mapping
from hashlib import sha256

import numpy as np

from mil.packing import pack
from mil.types import BY_NAME
from optimizations.mixed.compensation import DAMPING, compensated
from optimizations.mixed.moments import Moments
from optimizations.palettes import palette
from optimizations.palettes.palette import Layout, Weight, values_of
from pipeline.types import Memo, QuernError


class Palettes:
    """Palettes of some weights, kept by weight and width, and in the store by what they depend on."""

    def __init__(self, originals: Mapping[str, np.ndarray], moments: Mapping[str, Moments], memo: Memo) -> None:
        """Take the weights (output, …) by name, and for some of them the moments of what each output multiplies."""
        self._originals, self._moments, self._memo = originals, moments, memo
        self._made: dict[tuple[str, int], Weight] = {}

    def weight(self, name: str, width: int) -> Weight:
        """Return the palette and the indices; raises QuernError for weights with nan or infinite values."""
        if (name, width) not in self._made:
            self._made[name, width] = self._recalled(name, width)
        return self._made[name, width]

    def values(self, name: str, width: int) -> np.ndarray:
        """Return the values that a weight has at a width."""
        return values_of(self.weight(name, width), self._originals[name].shape)

    def mean_error(self, name: str, width: int) -> np.ndarray | None:
        """Return what the products of a weight lose on average, (output,); None where its features are not known."""
        moments = self._moments.get(name)
        if moments is None:
            return None
        error = self._originals[name].astype(np.float64) - self.values(name, width)
        return error.reshape(len(error), -1) @ moments.mean

    def _recalled(self, name: str, width: int) -> Weight:
        original, moments = self._originals[name], self._moments.get(name)
        recipe = palette.recipe(original, Layout(width))
        if moments is not None:
            covariance = sha256(np.ascontiguousarray(moments.covariance).data).hexdigest()
            recipe |= {"covariance": covariance, "damping": DAMPING}
        try:
            return palette.load(
                self._memo(recipe, lambda folder: palette.save(_made(original, width, moments), folder))
            )
        except ValueError as error:
            raise QuernError(f"weight `{name}`: {error}") from None


def _made(original: np.ndarray, width: int, moments: Moments | None) -> Weight:
    """Return the best palette of a weight, its indices chosen by the features where they are known."""
    best = palette.make(original, Layout(width))
    if moments is None:
        return best
    weight = original.reshape(len(original), -1)
    indices = compensated(weight, np.unique(best.entries[0]), moments)
    error = weight.astype(np.float64) - best.entries[0].astype(np.float64)[indices]
    return Weight(pack(indices, BY_NAME[f"uint{width}"]), best.entries, None, float((error * error).sum()))
