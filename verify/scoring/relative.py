"""How far numbers are from those that they should be, as a share of these."""

import numpy as np


def relative(expected: np.ndarray, found: np.ndarray) -> float:
    """Return rms(found − expected) / rms(expected); equal numbers are 0 apart, NaN where both have it too.

    NaN or infinity is the answer where one has a number and the other has none, or where what is expected is all zero.
    """
    same = (expected == found) | (np.isnan(expected) & np.isnan(found))
    if same.all():
        return 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.sqrt(np.mean(np.square(np.where(same, 0, found - expected))))
        return float(apart / np.sqrt(np.mean(np.square(expected))))
