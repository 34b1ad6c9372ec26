"""What a streaming network is tried on: whole recordings, the state fed back, and single calls in typical states."""

from collections.abc import Iterable

import numpy as np

from diarization.streaming.drive import PREDS, Call, stream, valid_preds
from diarization.streaming.state import StreamingParameters
from pipeline.types import Arrays, Runner

FEATURES, COMPRESSIONS, SILENCE_FRAMES = "features", "compressions", "silence_frames"


def drive(runner: Runner, inputs: Arrays, parameters: StreamingParameters) -> Arrays:
    """Run one example and return its outputs.

    inputs    either the six inputs of one call of the network, or FEATURES (feature frame, mel) of a whole recording
    returns   PREDS (frame, speaker): of all valid frames of the call, or of all frames of the recording. For a
              recording also, after each chunk, how often the cache has been compressed and how many frames of silence
              there have been: COMPRESSIONS and SILENCE_FRAMES (chunk,)
    """
    if FEATURES not in inputs:
        return {PREDS: valid_preds(inputs, runner(inputs))}
    preds = [np.zeros((0, parameters.speakers), np.float32)]
    counts = []
    for turn in stream(runner, [inputs[FEATURES]], parameters):  # a turn's state is let go of at once
        preds.append(turn.preds)
        counts.append((turn.state.compressions, turn.state.silence_frames))
    compressions, silence_frames = np.array(counts, np.int32).reshape(-1, 2).T
    return {PREDS: np.concatenate(preds), COMPRESSIONS: compressions, SILENCE_FRAMES: silence_frames}


def feature_frames(compressions: int, parameters: StreamingParameters) -> int:
    """Return how long a recording must be, in feature frames, for the cache to be compressed so many times.

    After the last compression comes a chunk with its whole context, and the recording ends with a partial chunk.
    """
    fifo = cache = done = chunks = 0
    while done < compressions:
        chunks, fifo = chunks + 1, fifo + parameters.chunk_len
        if fifo > parameters.fifo_len:
            moved = min(max(parameters.spkcache_update_period, fifo - parameters.fifo_len), fifo)
            fifo, cache = fifo - moved, cache + moved
        if cache > parameters.spkcache_len:
            cache, done = parameters.spkcache_len, done + 1
    half = parameters.chunk_len // 2
    context = max(0, -(-(parameters.chunk_right_context - half) // parameters.chunk_len))
    frames = (chunks + 1 + context) * parameters.chunk_len + half
    return frames * parameters.subsampling_factor + parameters.subsampling_factor // 2


def typical(calls: Iterable[Call], parameters: StreamingParameters) -> dict[str, Arrays]:
    """Return the inputs of one call for each state that a stream goes through, of the calls of one recording.

    cold        nothing is remembered
    half_full   cache and FIFO together are nearest to half of what they hold. Where the first chunk fills them both
                there is no such call; then it is the steady one with half of each taken away
    steady      the cache has been compressed, and the chunk has its whole context
    final       the recording ends

    Raises ValueError for a recording that is too short for its cache to be compressed.
    """
    made = list(calls)
    steady = next((call for call in made if call.state.compressions and _is_whole(call, parameters)), None)
    if steady is None:
        raise ValueError(
            f"{len(made)} chunks: too few for the cache to be compressed; expected at least "
            f"{feature_frames(1, parameters)} feature frames"
        )
    filling = [call for call in made if call.state.compressions == 0 and len(call.state.fifo)]
    half = (parameters.spkcache_len + parameters.fifo_len) / 2
    nearest = min(filling, key=lambda call: abs(len(call.state.spkcache) + len(call.state.fifo) - half), default=None)
    return {
        "cold": made[0].inputs,
        "half_full": nearest.inputs if nearest else _halved(steady.inputs),
        "steady": steady.inputs,
        "final": made[-1].inputs,
    }


def _is_whole(call: Call, parameters: StreamingParameters) -> bool:
    return bool(call.inputs["chunk_lengths"][0] == parameters.chunk_frames * parameters.subsampling_factor)


def _halved(inputs: Arrays) -> Arrays:
    halved = dict(inputs)
    for name in ("spkcache", "fifo"):
        kept = int(inputs[f"{name}_lengths"][0]) // 2
        halved[name] = np.where(np.arange(inputs[name].shape[1])[:, np.newaxis] < kept, inputs[name], np.float32(0))
        halved[f"{name}_lengths"] = np.array([kept], np.int32)
    return halved
