"""What follows the embeddings of a window: distances, who counts as a speaker, and turns that last; no weights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converters.models import cosine_distance
from converters.networks.processors import speech
from converters.networks.processors.layout import ACTIVE_FRAMES, RUN_FRAMES, SPEAKERS
from converters.networks.processors.sizes import Size, axis, checked_size, lengths
from converters.networks.wespeaker_layout import DIMENSION, MASK_FRAMES
from pipeline.types import Arrays, Example, Recording, Runner, Tensor

if TYPE_CHECKING:
    from converters.networks.processors.post_embedding import PostEmbedding

FILES: tuple[tuple[str, ...], ...] = ((),)


@dataclass(frozen=True)
class Form:
    """What a variant may choose.

    speakers   of the segmentation network
    capacity   rows of the database: a number, or the least and the most where the caller chooses; an empty database is
               one row of zeros, and rows that are not in use are zeros too
    """

    speakers: int = SPEAKERS
    capacity: Size = 64

    def __post_init__(self) -> None:
        if isinstance(checked_size("speakers", self.speakers), tuple):
            raise ValueError(f"speakers: {self.speakers!r}; expected one whole number")
        object.__setattr__(self, "capacity", checked_size("capacity", self.capacity))


def metadata(form: Form) -> dict[str, str]:
    """Return the thresholds, which are part of the program."""
    return {
        "frames": str(MASK_FRAMES),
        "distance": "1 - cosine",
        "valid_above_active_frames": str(ACTIVE_FRAMES),
        "shortest_run_frames": str(RUN_FRAMES),
    }


def inputs(form: Form) -> tuple[Tensor, ...]:
    """Return the window's embeddings, those of speakers known before, and who speaks in each frame."""
    return (
        Tensor("embeddings", ("speaker", "dimension"), (form.speakers, DIMENSION), "float32", "embedding"),
        Tensor("database", ("row", "dimension"), (axis(form.capacity), DIMENSION), "float32", "embedding"),
        _masks("masks", form),
    )


def outputs(form: Form) -> tuple[Tensor, ...]:
    """Return distances, active frames, who is valid, and the masks without short runs.

    Activity counts the frames of the masks as they come in. Valid, float32, 0 or 1, is who is active in more than ten
    frames and has an embedding other than zero.
    """
    shape = (form.speakers, axis(form.capacity))
    return (
        Tensor("distances", ("speaker", "row"), shape, "float32", "cosine distance"),
        Tensor("activity", ("speaker",), (form.speakers,), "float32", "frame"),
        Tensor("valid", ("speaker",), (form.speakers,), "float32", "0 or 1"),
        _masks("filtered_masks", form),
    )


def _masks(name: str, form: Form) -> Tensor:
    return Tensor(name, ("batch", "frame", "speaker"), (1, MASK_FRAMES, form.speakers), "float32", "0 or 1")


def read(files: Mapping[str, Path]) -> Arrays:
    """Return no tensors: there are none to train."""
    return {}


def synthetic(seed: int) -> Arrays:
    """Return no tensors: there are none to stand in for."""
    return {}


def load(state: Arrays, form: Form) -> "PostEmbedding":
    """Return our processor."""
    from converters.networks.processors.post_embedding import PostEmbedding

    return PostEmbedding().eval()


def reference(state: Arrays, form: Form) -> Runner:
    """Return the definition: counts, and runs looked at one after the other."""

    def run(arrays: Arrays) -> Arrays:
        embeddings, [masks] = arrays["embeddings"], arrays["masks"]  # masks (frame, speaker)
        activity = masks.sum(axis=0)
        valid = (activity > ACTIVE_FRAMES) & embeddings.any(axis=1)
        return {
            "distances": cosine_distance.distances(embeddings, arrays["database"]),
            "activity": activity,
            "valid": valid.astype(np.float32),
            "filtered_masks": np.stack([without_short_runs(mask) for mask in masks.T], axis=1)[np.newaxis],
        }

    return run


def without_short_runs(mask: np.ndarray) -> np.ndarray:
    """Return a mask (frame,) without the runs of ones that are shorter than a second."""
    kept: list[float] = []
    for value, run in groupby(mask.tolist()):
        length = len(list(run))
        kept += [value if length >= RUN_FRAMES else 0.0] * length
    return np.array(kept, np.float32)


def examples(form: Form, recordings: Sequence[Recording], thorough: bool = False) -> Iterator[Example]:
    """Yield turns that follow the recordings with seeded embeddings, then the edges, for all speakers at once.

    The database is full, then partly in use, then empty, in turns; a range of capacities is at its least and its most.
    """
    cases = {name: speech.masks(audio, form.speakers) for name, audio in speech.windows(recordings, thorough)}
    cases |= {name: np.stack([mask] * form.speakers, axis=-1)[np.newaxis] for name, mask in _edges().items()}
    for i, (name, masks) in enumerate(cases.items()):
        embeddings = speech.embeddings(form.speakers, seed=i)
        embeddings[: name == "zero_embedding"] = 0
        for capacity in lengths(form.capacity):
            given = {"embeddings": embeddings, "database": _database(capacity, i), "masks": masks}
            yield Example(f"{name}_{capacity}", given)


def _database(capacity: int, turn: int) -> np.ndarray:
    rows = speech.embeddings(capacity, seed=1000)
    rows[[capacity, capacity // 2, 0][turn % 3] :] = 0
    return rows


def _edges() -> dict[str, np.ndarray]:
    """Return masks (frame,) at the thresholds: runs of 58, 59 and 60 frames, inside and at the window's ends."""
    end, run = MASK_FRAMES, RUN_FRAMES
    around = {length: speech.runs((0, length), (200, 200 + length), (end - length, end)) for length in (58, 59, 60)}
    return {
        "always": speech.runs((0, end)),
        "zero_embedding": speech.runs((0, end)),
        "never": speech.runs(),
        "run58": around[58],
        "run59": around[59],
        "run60": around[60],
        "gap1": speech.runs((10, 10 + run), (11 + run, 10 + 2 * run), (300, 300 + run), (301 + run, 301 + 2 * run)),
        "active9": speech.runs((0, 4), (100, 105)),
        "active10": speech.runs((0, 5), (100, 105)),
        "active11": speech.runs((0, 5), (100, 106)),
        "alternating": (np.arange(end) % 2).astype(np.float32),
        "all_but_one": 1 - speech.runs((end - run - 1, end - run)),
    }
