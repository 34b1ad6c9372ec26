"""Powerset classes: which sets of speakers the classes of a segmentation network stand for."""

from itertools import combinations

import numpy as np


def powerset(speakers: int = 3, at_most: int = 2) -> np.ndarray:
    """Return which speakers each class stands for.

    at_most   how many speakers may talk at once
    returns   (class, speaker) bool; the sets by size, and in lexicographic order within a size: for the defaults
              {}, {0}, {1}, {2}, {0,1}, {0,2}, {1,2}

    Raises ValueError for fewer than one speaker, or for more at once than there are.
    Source: Plaquet & Bredin 2023, section 2.
    """
    if not 1 <= at_most <= speakers:
        raise ValueError(
            f"powerset of {speakers} speakers with at most {at_most} at once: expected 1 <= at_most <= speakers"
        )
    members = [subset for size in range(at_most + 1) for subset in combinations(range(speakers), size)]
    classes = np.zeros((len(members), speakers), bool)
    for row, subset in zip(classes, members, strict=True):
        row[list(subset)] = True
    return classes


def powerset_to_speakers(log_probs: np.ndarray, speakers: int = 3, at_most: int = 2) -> np.ndarray:
    """Return which speakers are active in each frame: those of the likeliest class.

    log_probs   (…, frame, class)  natural log of P(class), classes as in `powerset`
    returns     (…, frame, speaker) bool

    Raises ValueError if the last axis is not as long as the powerset.
    """
    classes = powerset(speakers, at_most)
    if log_probs.shape[-1:] != (len(classes),):
        raise ValueError(
            f"log probabilities of shape {list(log_probs.shape)}: expected {len(classes)} classes on the last axis, "
            f"the sets of at most {at_most} of {speakers} speakers"
        )
    return classes[log_probs.argmax(axis=-1)]
