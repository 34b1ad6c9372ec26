"""A recording through a streaming network: chunk after chunk, with the state fed back.

The network is a function of named arrays, whatever runs it: PyTorch, a converted program, a device. Its shapes are
fixed, and it is told how much of them is filled.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from diarization.streaming.chunks import Chunk, chunks
from diarization.streaming.state import State, StreamingParameters, cold_start
from diarization.streaming.update import overflows, queued_up, step
from pipeline.types import Arrays, QuernError, Runner

# Published programs have these names, or the same with "_out" behind them.
PREDS, EMBEDDINGS, LENGTHS = "speaker_preds", "chunk_pre_encoder_embs", "chunk_pre_encoder_lengths"


@dataclass(frozen=True)
class Turn:
    """One call of the network and what came of it.

    preds   (frame, speaker) what was decided about the frames of the chunk
    state   what is remembered afterwards
    """

    preds: np.ndarray
    state: State


@dataclass(frozen=True)
class Call:
    """What the network is given for one chunk, and the state that this was made from."""

    inputs: Arrays
    state: State


def stream(runner: Runner, blocks: Iterable[np.ndarray], parameters: StreamingParameters) -> Iterator[Turn]:
    """Yield one turn for every chunk of a recording; the `preds` of all turns in a row are those of the recording.

    runner    takes `network_inputs`; returns PREDS (1, frame, speaker), the probabilities of all frames that it was
              given, and EMBEDDINGS (1, frame, embedding), the pre-encoder's of the chunk, with their number, LENGTHS
    blocks    the recording's features (feature frame, mel), in pieces of any length, as they come in

    Memory does not grow with the recording. Raises QuernError if the network counts other frames than were asked for.
    """
    state = cold_start(parameters)
    for chunk in chunks(blocks, parameters):
        outputs = runner(network_inputs(chunk, state, parameters))
        state, decided = _step(state, chunk, outputs, parameters)
        yield Turn(decided, state)


def calls(
    encoder: Runner, runner: Runner, blocks: Iterable[np.ndarray], parameters: StreamingParameters
) -> Iterator[Call]:
    """Yield every call that `stream` would make, and make only those that decide what the next is given.

    encoder   takes `chunk` and `chunk_lengths` of `network_inputs`; returns EMBEDDINGS and LENGTHS as the runner does

    Probabilities decide about the state only where the FIFO overflows: in one call of
    `spkcache_update_period / chunk_len`.
    """
    state, heard = cold_start(parameters), None
    for chunk in chunks(blocks, parameters):
        if heard is not None:
            state = _followed(encoder, runner, state, heard, parameters)
        heard = chunk
        yield Call(network_inputs(chunk, state, parameters), state)


def _followed(encoder: Runner, runner: Runner, state: State, chunk: Chunk, parameters: StreamingParameters) -> State:
    """Return the state after a chunk, by the encoder alone where that is enough."""
    inputs = network_inputs(chunk, state, parameters)
    encoded = encoder({name: inputs[name] for name in ("chunk", "chunk_lengths")})
    queued = queued_up(state, _embeddings(encoded, chunk, parameters)[chunk.inside])
    if not overflows(queued, parameters):
        return queued
    return _step(state, chunk, runner(inputs), parameters)[0]


def network_inputs(chunk: Chunk, state: State, parameters: StreamingParameters) -> Arrays:
    """Return the inputs of one call: what is there, padded with zeros to the fixed lengths, and how much is there."""
    inputs: Arrays = {}
    for name, array, length in (
        ("chunk", chunk.features, parameters.chunk_frames * parameters.subsampling_factor),
        ("spkcache", state.spkcache, parameters.spkcache_len),
        ("fifo", state.fifo, parameters.fifo_len),
    ):
        inputs[name] = np.pad(array, ((0, length - len(array)), (0, 0)))[np.newaxis].astype(np.float32)
        inputs[f"{name}_lengths"] = np.array([len(array)], np.int32)
    return inputs


def valid_preds(inputs: Arrays, outputs: Arrays) -> np.ndarray:
    """Return the probabilities (frame, speaker) of the frames that a call was given, without those of its padding."""
    frames = inputs["spkcache_lengths"][0] + inputs["fifo_lengths"][0] + _count(outputs)
    return _output(outputs, PREDS)[0, :frames].astype(np.float32)


def _step(state: State, chunk: Chunk, outputs: Arrays, parameters: StreamingParameters) -> tuple[State, np.ndarray]:
    embeddings = _embeddings(outputs, chunk, parameters)
    frames = len(state.spkcache) + len(state.fifo) + len(embeddings)
    preds = _output(outputs, PREDS)[0, :frames].astype(np.float32)
    return step(state, embeddings, preds, chunk.inside, parameters)


def _embeddings(outputs: Arrays, chunk: Chunk, parameters: StreamingParameters) -> np.ndarray:
    frames = -(-len(chunk.features) // parameters.subsampling_factor)
    if _count(outputs) != frames:
        raise QuernError(
            f"{LENGTHS}: the network counts {_count(outputs)} frames in {len(chunk.features)} feature frames; expected "
            f"{frames}, with a subsampling of {parameters.subsampling_factor}"
        )
    return _output(outputs, EMBEDDINGS)[0, :frames].astype(np.float32)


def _count(outputs: Arrays) -> int:
    return int(_output(outputs, LENGTHS).reshape(-1)[0])


def _output(outputs: Arrays, name: str) -> np.ndarray:
    found = outputs.get(name, outputs.get(f"{name}_out"))
    if found is None:
        raise QuernError(f"no output {name} or {name}_out; the network returns {', '.join(outputs)}")
    return found
