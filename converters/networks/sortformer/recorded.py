"""The states that a stream goes through, recorded with our own network, as inputs of single calls."""

from typing import Any

import numpy as np
import torch

from diarization.streaming.drive import EMBEDDINGS, LENGTHS, PREDS, calls
from diarization.streaming.examples import typical
from diarization.streaming.state import StreamingParameters
from pipeline.types import Arrays, Runner


def recorded(network: Any, mel: np.ndarray, parameters: StreamingParameters) -> dict[str, Arrays]:
    """Return the inputs of one call in each of the states cold, half_full, steady and final.

    network   our Streaming; only the calls that decide what the next is given are made, for the others it pre-encodes
    mel       log mel power (mel frame, mel) of a recording in which the speaker cache is compressed
    """
    encoder = _called(network.pre_encode, EMBEDDINGS, LENGTHS)
    return typical(calls(encoder, _called(network, PREDS, EMBEDDINGS, LENGTHS), [mel], parameters), parameters)


def _called(module: Any, *names: str) -> Runner:
    def run(inputs: Arrays) -> Arrays:
        with torch.inference_mode():
            found = module(*(torch.from_numpy(array) for array in inputs.values()))
        return {name: tensor.numpy() for name, tensor in zip(names, found, strict=True)}

    return run
