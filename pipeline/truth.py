"""What says most about how true an artifact is to its upstream: one number of all that checks measured."""

from collections.abc import Mapping

# The first that was measured counts; what it is called in tables.
FAITHFUL = {
    "parity.argmax": "same speakers",
    "streaming.agreement": "same decisions",
    "embedding.cosine_worst": "worst cosine",
    "equality.agreement": "same flags",
    "equality.max_difference": "largest difference",
    "functions.differing": "functions that differ",
}


def truth(measured: Mapping[str, float | None]) -> tuple[str, float] | None:
    """Return what it is called and its value, of measurements by name; None where nothing was measured."""
    found = ((title, measured.get(name)) for name, title in FAITHFUL.items())
    return next(((title, value) for title, value in found if value is not None), None)


def number(value: float | None) -> str:
    """Return a number as people read it: shares close to one with the digits that tell them apart."""
    if value is None:
        return "–"
    if value == 0 or abs(value) >= 1e-3:
        return f"{value:.6f}" if 0.9 < value < 1 else f"{value:.4g}"
    return f"{value:.1e}"
