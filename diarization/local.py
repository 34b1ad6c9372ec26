"""What a segmentation network says of one window: which of its own speakers are active when.

Frames lie on one grid for the whole recording, of the network's step; a window begins at the frame nearest to its
start.
"""

from dataclasses import dataclass

import numpy as np

from diarization.powerset import powerset, powerset_to_speakers


@dataclass(frozen=True)
class LocalSpeakers:
    """The speakers of one window, numbered as the network happens to number them there.

    first         frame of the grid on which the window begins
    probability   (frame, speaker) float32, of being active
    active        (frame, speaker) bool, as the likeliest class has it
    """

    first: int
    probability: np.ndarray
    active: np.ndarray

    @property
    def end(self) -> int:
        return self.first + len(self.active)

    @property
    def alone(self) -> np.ndarray:
        """Where a speaker is the only one: (frame, speaker) bool."""
        return self.active & (self.active.sum(axis=1, keepdims=True) == 1)


def local_speakers(first: int, log_probs: np.ndarray, speakers: int = 3, at_most: int = 2) -> LocalSpeakers:
    """Return what log probabilities of powerset classes (frame, class) say of each speaker.

    The probability of a speaker is that of all classes that hold them. Raises ValueError as `powerset_to_speakers`.
    """
    active = powerset_to_speakers(log_probs, speakers, at_most)
    probability = np.exp(log_probs.astype(np.float32)) @ powerset(speakers, at_most).astype(np.float32)
    return LocalSpeakers(first, np.clip(probability, 0, 1), active)


def until(local: LocalSpeakers, end: int) -> LocalSpeakers:
    """Return a window cut off where the recording ends, so that what was padded says nothing."""
    frames = max(0, end - local.first)
    return LocalSpeakers(local.first, local.probability[:frames], local.active[:frames])
