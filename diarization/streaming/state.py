"""What a streaming Sortformer remembers between two chunks, and how much of it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


def earliest_of_highest(scores: np.ndarray, count: int) -> np.ndarray:
    """Return where the `count` highest of some scores are; of equal ones the first."""
    return np.argsort(-scores, kind="stable")[:count]


@dataclass(frozen=True)
class Selection:
    """Which frames of a speaker are worth remembering. Defaults are NeMo's.

    silence_frames     frames of silence that stand behind each speaker's in the cache
    silence_threshold  a frame is silent where the probabilities of its speakers add up to less
    score_floor        probabilities below count as this much in a score
    latest_boost       what is added to the scores of frames that are new in the cache
    strong_rate        how many of a speaker's best frames, as a share of his places, gain 2 log 2, and are all but
                       sure to be kept
    weak_rate          how many of them gain log 2, so that no speaker takes the places of all others
    positive_rate      share of a speaker's places that frames of him alone must fill before overlap is left out
    highest            finds the highest of some scores, and settles which where they are equal. They often are: a frame
                       of overlap that was kept for two speakers is in the cache twice. NeMo leaves it to `torch.topk`,
                       whose choice differs between devices; the order of the cache depends on it, not what it holds
    """

    silence_frames: int = 3
    silence_threshold: float = 0.2
    score_floor: float = 0.25
    latest_boost: float = 0.05
    strong_rate: float = 0.75
    weak_rate: float = 1.5
    positive_rate: float = 0.5
    highest: Callable[[np.ndarray, int], np.ndarray] = earliest_of_highest


@dataclass(frozen=True)
class StreamingParameters:
    """How much is heard at once and how much is remembered; named as in the metadata of the artifacts.

    chunk_len               frames that one call decides; a frame is `subsampling_factor` feature frames, 80 ms
    chunk_left_context      frames before them that the call hears again
    chunk_right_context     frames after them that it hears already: the latency beyond the chunk itself
    fifo_len                latest frames that are kept as they are
    spkcache_len            frames of all speakers that are kept of everything before
    spkcache_update_period  frames that leave the FIFO for the cache at once, when it is full
    subsampling_factor      feature frames in a frame
    embedding_size          width of the embeddings that cache and FIFO hold
    speakers                how many speakers are told apart

    Raises ValueError for lengths with which nothing could be decided or kept.
    """

    chunk_len: int
    chunk_right_context: int
    fifo_len: int
    spkcache_update_period: int
    chunk_left_context: int = 1
    spkcache_len: int = 188
    subsampling_factor: int = 8
    embedding_size: int = 512
    speakers: int = 4
    selection: Selection = field(default_factory=Selection)

    def __post_init__(self) -> None:
        least = {
            "chunk_len": 1,
            "chunk_left_context": 0,
            "chunk_right_context": 0,
            "fifo_len": 0,
            "spkcache_len": (1 + self.selection.silence_frames) * self.speakers,
            "spkcache_update_period": 1,
            "subsampling_factor": 1,
        }
        for name, bound in least.items():
            value = getattr(self, name)
            if type(value) is not int or value < bound:
                raise ValueError(f"{name}: {value!r}; expected a whole number from {bound} on")

    @property
    def chunk_frames(self) -> int:
        """The most frames that one call hears: the chunk and its context on either side."""
        return self.chunk_left_context + self.chunk_len + self.chunk_right_context


@dataclass(frozen=True)
class State:
    """What is remembered after a chunk.

    fifo             (frame, embedding) the latest frames
    spkcache         (frame, embedding) frames of each speaker, speaker after speaker, each with silence behind them;
                     until it has been compressed for the first time, simply the frames before the FIFO
    spkcache_preds   (frame, speaker) their probabilities; None until the first compression
    silence          (embedding,) the mean of all silent frames that have left the FIFO
    silence_frames   how many these were
    compressions     how often the cache was compressed
    """

    fifo: np.ndarray
    spkcache: np.ndarray
    spkcache_preds: np.ndarray | None
    silence: np.ndarray
    silence_frames: int
    compressions: int


def cold_start(parameters: StreamingParameters) -> State:
    """Return the state before the first chunk: nothing."""
    nothing = np.zeros((0, parameters.embedding_size), np.float32)
    silence = np.zeros(parameters.embedding_size, np.float32)
    return State(nothing, nothing, None, silence, silence_frames=0, compressions=0)
