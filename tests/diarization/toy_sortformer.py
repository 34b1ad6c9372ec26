"""A Sortformer in a few lines of numpy, and a conversation for it to hear: quick, decisive, and with a real memory."""

import numpy as np

from diarization.streaming.drive import EMBEDDINGS, LENGTHS, PREDS
from diarization.streaming.state import StreamingParameters
from pipeline.types import Arrays, Runner

MELS = 16


def features(parameters: StreamingParameters, frames: int, seed: int = 0) -> np.ndarray:
    """Return features (feature frame, mel) of people who talk, fall silent and interrupt each other."""
    generator = np.random.default_rng(seed)
    changes = generator.random((frames, parameters.speakers)) < 0.06
    talking = np.cumsum(changes, axis=0) % 4 == np.arange(parameters.speakers)
    voices = _voices(parameters) * 3.0
    clean = np.repeat(talking @ voices, parameters.subsampling_factor, axis=0)
    return (clean + generator.normal(0, 1.0, clean.shape)).astype(np.float32)[:-3]


def toy(parameters: StreamingParameters, memory: float = 0.5) -> Runner:
    """Return a network with the inputs and outputs of a Sortformer.

    Every frame attends to all frames that were given, more to those that are like it and to those nearby; `memory` is
    how much of what it decides comes from there. What is padding plays no part.
    """
    project = _projection(parameters)
    read = np.linalg.pinv(_voices(parameters) @ project)  # (embedding, speaker)

    def run(inputs: Arrays) -> Arrays:
        embeddings, count = _encoded(inputs, parameters)
        known = [inputs[name][0, : inputs[f"{name}_lengths"][0]] for name in ("spkcache", "fifo")]
        frames = np.concatenate([*known, embeddings[:count]])
        likeness = frames @ frames.T / 4
        distance = np.abs(np.subtract.outer(np.arange(len(frames)), np.arange(len(frames))))
        weights = np.exp(likeness - likeness.max(axis=1, keepdims=True) - distance / 100)
        context = (weights / weights.sum(axis=1, keepdims=True)) @ frames
        logits = 4 * (((1 - memory) * frames + memory * context) @ read) - 6
        preds = np.zeros((_capacity(parameters), parameters.speakers), np.float32)
        preds[: len(frames)] = 1 / (1 + np.exp(-logits))
        return {PREDS: preds[np.newaxis], EMBEDDINGS: embeddings[np.newaxis], LENGTHS: np.array([count], np.int32)}

    return run


def toy_encoder(parameters: StreamingParameters) -> Runner:
    """Return the toy's pre-encoder alone."""

    def run(inputs: Arrays) -> Arrays:
        embeddings, count = _encoded(inputs, parameters)
        return {EMBEDDINGS: embeddings[np.newaxis], LENGTHS: np.array([count], np.int32)}

    return run


def _encoded(inputs: Arrays, parameters: StreamingParameters) -> tuple[np.ndarray, int]:
    """Return embeddings (frame, embedding), the mean of their feature frames projected, and how many are no padding."""
    factor, length = parameters.subsampling_factor, int(inputs["chunk_lengths"][0])
    chunk = inputs["chunk"][0]
    valid = np.arange(len(chunk)) < length
    sums = (chunk * valid[:, np.newaxis]).reshape(-1, factor, MELS).sum(axis=1)
    counts = np.maximum(valid.reshape(-1, factor).sum(axis=1, keepdims=True), 1)
    return (sums / counts @ _projection(parameters)).astype(np.float32), -(-length // factor)


def _voices(parameters: StreamingParameters) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(parameters.speakers, MELS))


def _projection(parameters: StreamingParameters) -> np.ndarray:
    return np.random.default_rng(2).normal(0, MELS**-0.5, (MELS, parameters.embedding_size))


def _capacity(parameters: StreamingParameters) -> int:
    return parameters.spkcache_len + parameters.fifo_len + parameters.chunk_frames
