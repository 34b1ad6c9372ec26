"""What times of calls mean for an app: for ten seconds of audio, and beside the audio as it comes in."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from mil.bundle import read_file
from mil.description import read_metadata
from pipeline.types import Measurement, Range, Tensor

UNITS = {"milliseconds": "ms", "milliseconds_per_10s": "ms", "real_time_factor": "seconds per second"}
Texts = Mapping[str, str]


def texts_of(bundle: Path) -> dict[str, str]:
    """Return the strings that a bundle carries for apps, of several functions those of the default one."""
    metadata = read_metadata(read_file(bundle / "metadata.json"))
    texts = {str(key): str(text) for key, text in (metadata.get("userDefinedMetadata") or {}).items()}
    default = f"{metadata.get('defaultFunctionName')}."
    return texts | {key.removeprefix(default): text for key, text in texts.items() if key.startswith(default)}


def audio_s(texts: Texts, inputs: Sequence[Tensor]) -> float | None:
    """Return how many seconds of audio a call moves on by, from the artifact's own strings; None where it hears none.

    That is the chunk of a streaming network, without its context, and else a window for each row of the batch.
    """
    if "chunk_len" in texts:
        return int(texts["chunk_len"]) * float(texts["frame_duration"])
    if "window_s" not in texts:
        return None
    return float(texts["window_s"]) * _rows(inputs[0])


def _rows(tensor: Tensor) -> int:
    """Return the least size of the batch, 1 where there is none."""
    sizes = dict(zip(tensor.axes, tensor.shape, strict=True))
    size = sizes.get("batch", 1)
    return size.low if isinstance(size, Range) else size


def figures(by_units: Mapping[str, Sequence[float]], units: str, heard_s: float | None) -> list[Measurement]:
    """Return what the times of calls on the recommended compute units come to; the details have all units.

    milliseconds           median of a call
    milliseconds_per_10s   median, for ten seconds of audio
    real_time_factor       the slowest call over the audio that it moves on by: below 1, the network keeps up
    """
    if units not in by_units:
        return [Measurement(name, None, unit, f"does not run on {units}") for name, unit in UNITS.items()]
    medians = {name: statistics.median(times) for name, times in by_units.items()}
    note = f"on {units}; medians: " + ", ".join(f"{name} {value:.2f}" for name, value in medians.items())
    values: dict[str, float | None] = {"milliseconds": medians[units]}
    if heard_s:
        values["milliseconds_per_10s"] = medians[units] * 10 / heard_s
        values["real_time_factor"] = max(by_units[units]) / 1000 / heard_s
    detail = {"by_units": medians, "audio_s": heard_s}
    return [
        Measurement(
            name, values.get(name), unit, note if name in values else "a call takes no stretch of audio", detail
        )
        for name, unit in UNITS.items()
    ]
