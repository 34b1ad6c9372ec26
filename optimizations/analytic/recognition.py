"""Which formula a stored constant follows, if it follows one."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from optimizations.analytic import spectral
from optimizations.analytic.stored import Stored

FAMILIES = ("fourier", "window", "mel")

_SMALLEST_SIZE = 16
_WINDOWS = tuple(itertools.product(("hann", "hamming", "blackman", "povey"), (True, False)))
_RATES_HZ = (16000, 8000, 22050, 24000, 32000, 44100, 48000)
_LOWS_HZ = (0, 20, 30, 40, 50, 60, 64, 80, 125)
_HIGHS_HZ = (3800, 4000, 7600, 7800, 8000, 11025, 12000, 16000, 20000)

# What must agree before a constant is taken for a formula: how many of its values lie where storing the exact ones
# would have put them, and how close the two are in direction.
_LEAST_SHARE = 0.999
_LEAST_COSINE = 0.99
# A second formula that fits as well must be the same to this, or none is taken.
_SAME = 1e-3


@dataclass(frozen=True)
class Formula:
    """A formula and its values, (…) float64, in the shape of the constant."""

    name: str
    values: np.ndarray


@dataclass(frozen=True)
class Verdict:
    """The formula that a constant follows, or why there is none, and the cosine between it and the nearest."""

    formula: Formula | None
    cosine: float
    reason: str = ""


def families(shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the families of formulas that have constants of this shape, axes of one element apart."""
    sizes = [size for size in shape if size != 1]
    if len(sizes) == 1 and sizes[0] >= _SMALLEST_SIZE:
        return ("window",)
    if len(sizes) != 2:
        return ()
    ways = [(sizes[0], sizes[1]), (sizes[1], sizes[0])]
    found = ["fourier"] if any(_blocks(rows, size) for rows, size in ways) else []
    if any(_mel_shaped(filters, bins) for filters, bins in ways):
        found.append("mel")
    return tuple(found)


def recognised(constant: Stored, wanted: tuple[str, ...]) -> Verdict | None:
    """Return what a constant is; None where no formula has its shape."""
    formulas = {"fourier": _fourier, "window": _window, "mel": _mel}
    flat = constant.values.reshape([size for size in constant.values.shape if size != 1])
    kinds = [kind for kind in families(constant.values.shape) if kind in wanted]
    if not kinds or not np.isfinite(flat).all() or not flat.any():
        return None
    fitting: list[tuple[float, Formula]] = []
    best_cosine, nearest = -1.0, ""
    for found in (found for kind in kinds for found in formulas[kind](flat)):
        candidate = Formula(found.name, found.values.reshape(constant.values.shape))
        cosine = _cosine(candidate.values, constant.values)
        if cosine > best_cosine:
            best_cosine, nearest = cosine, candidate.name
        if cosine >= _LEAST_COSINE and _share(candidate.values, constant) >= _LEAST_SHARE:
            fitting.append((float(np.square(candidate.values - constant.values).sum()), candidate))
    if not fitting:
        return Verdict(None, best_cosine, f"not explained by how it is stored; nearest is {nearest}")
    return _only(fitting, best_cosine)


def _only(fitting: list[tuple[float, Formula]], cosine: float) -> Verdict:
    """Return the closest formula; none where another that fits as well says something else."""
    error, best = min(fitting, key=lambda each: each[0])
    scale = np.abs(best.values).max()
    for other_error, other in fitting:
        if other_error < 4 * error and np.abs(other.values - best.values).max() > _SAME * scale:
            return Verdict(None, cosine, f"cannot tell {best.name} from {other.name}")
    return Verdict(best, cosine)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.vdot(a, b)) / lengths if lengths else 0.0


def _share(exact: np.ndarray, constant: Stored) -> float:
    return float(((constant.low <= exact) & (exact <= constant.high)).mean())


def _fourier(flat: np.ndarray) -> Iterator[Formula]:
    """Yield Fourier matrices of the shape: cos, sin, or one above the other, windowed if the row of 0 Hz is."""
    for turned in (False, True):
        matrix = flat.T if turned else flat
        rows, size = matrix.shape
        for bins in _blocks(rows, size):
            parts = {name: spectral.fourier(name, size, bins) for name in ("cos", "sin")}
            for name, exact in _arrangements(parts, rows // bins):
                windows = _windows_of(matrix[0]) if name.startswith("cos") else ((f"{size} samples", np.ones(size)),)
                for over, taper in windows:
                    values = exact * taper
                    yield Formula(f"{name} of {bins} bins over {over}", values.T if turned else values)


def _blocks(rows: int, size: int) -> list[int]:
    """Return how many bins each part may have, for one part or two on top of each other."""
    if size < _SMALLEST_SIZE:
        return []
    whole = {size, size // 2 + 1, size // 2}
    return [rows // parts for parts in (1, 2) if rows % parts == 0 and rows // parts in whole]


def _arrangements(parts: dict[str, np.ndarray], count: int) -> Iterator[tuple[str, np.ndarray]]:
    if count == 1:
        yield from (("cos", parts["cos"]), ("sin", parts["sin"]), ("-sin", -parts["sin"]))
        return
    yield "cos and sin", np.concatenate([parts["cos"], parts["sin"]])
    yield "cos and -sin", np.concatenate([parts["cos"], -parts["sin"]])


def _windows_of(first: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return no window, and those that resemble the row of 0 Hz, which is the window itself."""
    size = first.size
    candidates = [(f"{size} samples", np.ones(size))]
    candidates += [(f"a {_window_name(*each, size)}", spectral.window(each[0], size, each[1])) for each in _WINDOWS]
    return [each for each in candidates if _cosine(each[1], first) >= _LEAST_COSINE] or candidates[:1]


def _window_name(shape: str, periodic: bool, size: int) -> str:
    return f"{'periodic' if periodic else 'symmetric'} {shape} window of {size}"


def _window(flat: np.ndarray) -> Iterator[Formula]:
    for shape, periodic in _WINDOWS:
        values = spectral.window(shape, flat.size, periodic)
        yield Formula(_window_name(shape, periodic, flat.size), values)
        if shape == "hann":
            yield Formula(
                f"square root of a {_window_name(shape, periodic, flat.size)}", np.sqrt(np.maximum(values, 0))
            )


def _mel_shaped(filters: int, bins: int) -> bool:
    return bins % 2 == 1 and _SMALLEST_SIZE <= filters < bins


def _mel(flat: np.ndarray) -> Iterator[Formula]:
    for turned in (False, True):
        filters, bins = flat.shape[::-1] if turned else flat.shape
        if _mel_shaped(filters, bins):
            for name, values in _mel_filters(filters, bins):
                yield Formula(name, values.T if turned else values)


def _mel_filters(filters: int, bins: int) -> Iterator[tuple[str, np.ndarray]]:
    for rate, low in itertools.product(_RATES_HZ, _LOWS_HZ):
        for high in dict.fromkeys((rate / 2, *(high for high in _HIGHS_HZ if high < rate / 2))):
            what = f"filters of {filters} × {bins}, {low:g} to {high:g} Hz at {rate} Hz"
            yield f"Kaldi mel {what}", spectral.kaldi_mel_filters(filters, bins, rate, low, high)
            for scale, equal_area in itertools.product(("htk", "slaney"), (False, True)):
                made = spectral.hz_mel_filters(filters, bins, rate, low, high, scale, equal_area)
                yield f"{scale} mel {what}{', of equal area' if equal_area else ''}", made
