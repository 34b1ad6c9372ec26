"""The options that all passes over weights have: a threshold, and what is left as it is."""

FRONT_END = "fbank"
SINGLE_PRECISION = "fp32"


def check(weight_threshold: int, exclude: tuple[str, ...]) -> None:
    """Raise ValueError for a threshold or an exclusion that means nothing."""
    if weight_threshold < 0:
        raise ValueError(f"weight_threshold: expected 0 elements or more, found {weight_threshold}")
    if isinstance(exclude, str) or not all(exclude):
        parts = f"outputs, '{FRONT_END}' or '{SINGLE_PRECISION}'"
        raise ValueError(f"exclude: expected a list of operation types, {parts}, found {exclude!r}")
