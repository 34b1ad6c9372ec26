"""What both releases are run on: windows of recordings where a model hears audio, and seeded draws for the rest."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np

from diarization.audio_stream import blocks, windows
from mil.interface import Feature, drawn
from pipeline.types import Arrays, Example

RATE_HZ = 16000
SEED = 0
DRAWS = 4  # examples of a model that hears no audio
_LEAST_SAMPLES = 160  # 10 ms: below that, an input is no waveform whatever its name
# Inputs that say how much of another one is filled, and along which axis.
_FILLED = {
    "audio_length": ("audio", 1),
    "chunk_lengths": ("chunk", 1),
    "spkcache_lengths": ("spkcache", 1),
    "fifo_lengths": ("fifo", 1),
    "mel_length": ("mel", 2),
}


def examples(features: Sequence[Feature], recordings: Sequence[Path], hop_s: float) -> Iterator[Example]:
    """Yield what a model with these inputs is run on, the same for the same recordings.

    A float input whose name has "audio" or "wave" in it is given windows of the recordings at 16 kHz, `hop_s` seconds
    apart, one for each row; the last example is filled with its first windows. The example is named after its rows:
    "talk@0s,talk@2.5s". Inputs with "mask" in their name, and `weights`, are ones and zeros in runs; those of _FILLED
    are lengths; others are what `mil.interface.drawn` draws.
    """
    heard = next((feature for feature in features if _is_audio(feature)), None)
    if heard is None:
        for index in range(DRAWS):
            yield Example(f"draw {index}", draw(features, index))
        return
    shape = _shape(heard)
    rows = int(np.prod(shape[:-1]))
    found = chain.from_iterable(_windows(path, shape[-1], round(hop_s * RATE_HZ)) for path in recordings)
    for index, taken in enumerate(_batched(found, rows)):
        names, samples = zip(*taken, strict=True)
        yield Example(",".join(names), _arrays(features, index, np.stack(samples)))


def draw(features: Sequence[Feature], index: int = 0) -> Arrays:
    """Return seeded inputs for a model, as `examples` gives one that hears no audio."""
    return _arrays(features, index, None)


def window_s(features: Sequence[Feature]) -> float:
    """Return how many seconds of a recording a model with these inputs hears at once; 0 where it hears none."""
    return max((_shape(feature)[-1] / RATE_HZ for feature in features if _is_audio(feature)), default=0.0)


def _is_audio(feature: Feature) -> bool:
    named = any(word in feature.name.lower() for word in ("audio", "wave"))
    return named and feature.type.element.kind == "float" and _shape(feature)[-1:] >= (_LEAST_SAMPLES,)


def _shape(feature: Feature) -> tuple[int, ...]:
    return drawn(feature, np.random.default_rng(SEED)).shape


def _windows(path: Path, length: int, hop: int) -> Iterator[tuple[str, np.ndarray]]:
    for window in windows(blocks(path, RATE_HZ), length, hop):
        yield f"{path.stem}@{window.start / RATE_HZ:g}s", window.samples


def _batched(found: Iterator[tuple[str, np.ndarray]], rows: int) -> Iterator[list[tuple[str, np.ndarray]]]:
    while taken := list(islice(found, rows)):
        yield [taken[row % len(taken)] for row in range(rows)]


def _arrays(features: Sequence[Feature], index: int, samples: np.ndarray | None) -> Arrays:
    generator = np.random.default_rng([SEED, index])
    return filled({feature.name: _array(feature, generator, samples) for feature in features})


def filled(arrays: Arrays) -> Arrays:
    """Return inputs in which each that says how much of another one is filled says that all of it is."""
    lengths = {
        name: np.full_like(arrays[name], arrays[whole].shape[axis])
        for name, (whole, axis) in _FILLED.items()
        if name in arrays and whole in arrays and arrays[whole].ndim > axis
    }
    return arrays | lengths


def _array(feature: Feature, generator: np.random.Generator, samples: np.ndarray | None) -> np.ndarray:
    array = drawn(feature, generator)
    if samples is not None and _is_audio(feature):
        return np.resize(samples[..., : array.shape[-1]], array.shape).astype(np.float32)
    if "mask" in feature.name.lower() or feature.name == "weights":
        return _runs(array.shape, generator)
    return array


def _runs(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Return ones and zeros float32 that change ten times or less along the longest axis."""
    axis = int(np.argmax(shape))
    length = shape[axis]
    changes = generator.integers(0, 2, (*shape[:axis], 10, *shape[axis + 1 :]))
    return np.take(changes, np.arange(length) * 10 // length, axis=axis).astype(np.float32)
