"""The streaming update of Sortformer: what becomes of the state when a chunk has been decided.

Chunks go into a FIFO. When it is full, its oldest frames move to the speaker cache; when that is full, it is compressed
to the frames that best tell the speakers apart. Written from NeMo 3.0, `SortformerModules.streaming_update`, the
synchronous form, whose state holds as many frames as there are and no padding.
"""

from dataclasses import replace

import numpy as np

from diarization.streaming.cache import SILENCE, selected
from diarization.streaming.state import State, StreamingParameters


def step(
    state: State, embeddings: np.ndarray, preds: np.ndarray, inside: slice, parameters: StreamingParameters
) -> tuple[State, np.ndarray]:
    """Return the state after a chunk, and what was decided about its frames.

    embeddings   (frame, embedding) the pre-encoder's, of the chunk and its context
    preds        (frame, speaker) probabilities of the frames of cache, FIFO, and chunk with its context, in this order
    inside       which frames of `embeddings` are the chunk without its context
    returns      the new state; (frame, speaker) probabilities of the chunk without its context

    Raises ValueError if there are not as many predictions as frames.
    """
    cached, queued = len(state.spkcache), len(state.fifo)
    if len(preds) != cached + queued + len(embeddings):
        raise ValueError(
            f"{len(preds)} predictions for {cached} frames of the cache, {queued} of the FIFO and {len(embeddings)} of "
            "the chunk; expected one for each"
        )
    decided = preds[cached + queued :][inside]
    fifo_preds = np.concatenate([preds[cached : cached + queued], decided])
    return _settled(queued_up(state, embeddings[inside]), preds[:cached], fifo_preds, parameters), decided


def queued_up(state: State, frames: np.ndarray) -> State:
    """Return the state with frames behind those in its FIFO."""
    return replace(state, fifo=np.concatenate([state.fifo, frames]))


def overflows(state: State, parameters: StreamingParameters) -> bool:
    """Return whether the FIFO holds more than it may. Only then do predictions decide anything about the state."""
    return len(state.fifo) > parameters.fifo_len


def _settled(state: State, cache_preds: np.ndarray, fifo_preds: np.ndarray, parameters: StreamingParameters) -> State:
    """Return the state with as many of its oldest FIFO frames moved to the cache as have to be."""
    if not overflows(state, parameters):
        return state
    surplus = len(state.fifo) - parameters.fifo_len
    moved = min(max(parameters.spkcache_update_period, surplus), len(state.fifo))
    known = cache_preds if state.spkcache_preds is None else state.spkcache_preds
    state = _with_silence(state, state.fifo[:moved], fifo_preds[:moved], parameters)
    spkcache = np.concatenate([state.spkcache, state.fifo[:moved]])
    state = replace(state, fifo=state.fifo[moved:], spkcache=spkcache)
    if len(spkcache) <= parameters.spkcache_len:
        return state
    return _compressed(state, np.concatenate([known, fifo_preds[:moved]]), parameters)


def _with_silence(state: State, frames: np.ndarray, preds: np.ndarray, parameters: StreamingParameters) -> State:
    """Return the state with the silent ones of these frames in its mean of silence."""
    silent = preds.sum(axis=1) < parameters.selection.silence_threshold
    count = state.silence_frames + int(silent.sum())
    total = state.silence * np.float32(state.silence_frames) + frames[silent].sum(axis=0)
    return replace(state, silence=total / np.float32(max(count, 1)), silence_frames=count)


def _compressed(state: State, preds: np.ndarray, parameters: StreamingParameters) -> State:
    kept = selected(preds, parameters)
    silent = (kept == SILENCE)[:, np.newaxis]
    return replace(
        state,
        spkcache=np.where(silent, state.silence, state.spkcache[kept]),
        spkcache_preds=np.where(silent, np.float32(0), preds[kept]),
        compressions=state.compressions + 1,
    )
