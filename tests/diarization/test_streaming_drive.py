"""Recordings through a streaming network: cut into chunks, the state fed back, states of all kinds recorded."""

from collections.abc import Iterator

import numpy as np
import pytest

from diarization.streaming import examples
from diarization.streaming.chunks import chunks
from diarization.streaming.drive import LENGTHS, PREDS, calls, network_inputs, stream
from diarization.streaming.state import StreamingParameters, cold_start
from pipeline.types import Arrays, QuernError
from tests.diarization.toy_sortformer import features, toy, toy_encoder

PARAMETERS = StreamingParameters(6, 7, 40, 31, embedding_size=12)
AT_ONCE = StreamingParameters(340, 40, 40, 300, embedding_size=12)


def numbered(length: int) -> np.ndarray:
    return np.arange(length, dtype=np.float32)[:, np.newaxis]


@pytest.mark.parametrize("length", [1, 47, 48, 49, 104, 105, 432, 433])
def test_chunks_cover_a_recording_once(length: int) -> None:
    """Without their context, the chunks in a row are the recording's frames, the last of them perhaps partial."""
    decided = 0
    for chunk in chunks([numbered(length)], PARAMETERS):
        assert chunk.features[chunk.left * 8, 0] == decided * 8
        decided += -(-len(chunk.features) // 8) - chunk.left - chunk.right
    assert decided == -(-length // 8)


def test_context_is_cut_off_where_the_recording_ends() -> None:
    """Nothing comes before the first chunk; after the last ones there is less and less."""
    found = [(len(c.features), c.left, c.right) for c in chunks([numbered(148)], PARAMETERS)]
    assert found == [(104, 0, 7), (108, 1, 7), (60, 1, 1), (12, 1, 0)]


@pytest.mark.parametrize("size", [1, 7, 48, 200])
def test_pieces_give_the_same_chunks_as_the_whole(size: int) -> None:
    """However the features come in, what is heard is the same."""
    whole = numbered(433)
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
    for one, other in zip(chunks([whole], PARAMETERS), chunks(pieces, PARAMETERS), strict=True):
        np.testing.assert_array_equal(one.features, other.features)
        assert one.inside == other.inside


def test_no_features_are_no_chunks() -> None:
    """An empty recording is no error, and nobody talks in it."""
    assert list(chunks([], PARAMETERS)) == list(chunks([numbered(0)], PARAMETERS)) == []
    outputs = examples.drive(toy(PARAMETERS), {examples.FEATURES: features(PARAMETERS, 1)[:0]}, PARAMETERS)
    assert {name: array.shape for name, array in outputs.items()} == {
        PREDS: (0, 4),
        examples.COMPRESSIONS: (0,),
        examples.SILENCE_FRAMES: (0,),
    }


def test_a_chunk_is_decided_before_the_recording_has_ended() -> None:
    """As soon as the context of a chunk has come in; so nothing of an endless recording piles up."""

    def endless() -> Iterator[np.ndarray]:
        piece = features(PARAMETERS, 6)[:40]
        while True:
            yield piece

    turns = stream(toy(PARAMETERS), endless(), PARAMETERS)
    for _ in range(60):
        turn = next(turns)
        assert (len(turn.state.fifo) <= 40, len(turn.state.spkcache) <= 188) == (True, True)
    assert turn.state.compressions > 1


def test_inputs_are_padded_to_fixed_shapes() -> None:
    """What is there comes first and its length is told; a cold start is all zeros."""
    (chunk,) = chunks([np.ones((20, 128), np.float32)], PARAMETERS)
    inputs = network_inputs(chunk, cold_start(PARAMETERS), PARAMETERS)
    assert {name: (array.shape, str(array.dtype)) for name, array in inputs.items()} == {
        "chunk": ((1, 112, 128), "float32"),
        "chunk_lengths": ((1,), "int32"),
        "spkcache": ((1, 188, 12), "float32"),
        "spkcache_lengths": ((1,), "int32"),
        "fifo": ((1, 40, 12), "float32"),
        "fifo_lengths": ((1,), "int32"),
    }
    assert (inputs["chunk_lengths"].item(), inputs["chunk"].sum()) == (20, 20 * 128)


def test_a_recording_is_decided_frame_by_frame() -> None:
    """Predictions come for every frame, and the cache and the silence of a conversation are counted."""
    recording = features(PARAMETERS, 500)
    outputs = examples.drive(toy(PARAMETERS), {examples.FEATURES: recording}, PARAMETERS)
    assert outputs[PREDS].shape == (500, 4)
    assert len(outputs[examples.COMPRESSIONS]) == -(-500 // 6)
    assert outputs[examples.COMPRESSIONS][-1] >= 5
    assert outputs[examples.SILENCE_FRAMES][-1] > 10
    active = outputs[PREDS] > 0.5
    assert (active.sum(axis=0) > 20).all()
    assert {0, 1, 2} <= set(active.sum(axis=1))


def test_a_network_that_counts_other_frames_is_refused() -> None:
    """A network of another subsampling would shift everything that follows."""
    run = toy(PARAMETERS)

    def miscounting(inputs: Arrays) -> Arrays:
        return run(inputs) | {LENGTHS: np.array([7], np.int32)}

    with pytest.raises(QuernError, match="the network counts 7 frames in 104 feature frames; expected 13"):
        list(stream(miscounting, [features(PARAMETERS, 60)], PARAMETERS))


def test_calls_are_those_of_the_stream_at_a_fraction_of_the_cost() -> None:
    """Every call has the inputs that the stream would give it, though few of them are made."""
    run, recording = toy(PARAMETERS), features(PARAMETERS, 400)
    streamed: list[Arrays] = []
    list(stream(lambda inputs: streamed.append(inputs) or run(inputs), [recording], PARAMETERS))
    made: list[Arrays] = []
    for call, inputs in zip(
        calls(toy_encoder(PARAMETERS), lambda inputs: made.append(inputs) or run(inputs), [recording], PARAMETERS),
        streamed,
        strict=True,
    ):
        assert call.inputs.keys() == inputs.keys()
        for name, array in inputs.items():
            np.testing.assert_array_equal(call.inputs[name], array)
    assert len(made) < len(streamed) / 4


@pytest.mark.parametrize("parameters", [PARAMETERS, AT_ONCE], ids=["fills slowly", "fills at once"])
def test_the_four_states_of_a_stream_are_what_they_are_called(parameters: StreamingParameters) -> None:
    """Nothing remembered; about half; a compressed cache and a whole chunk; and less than a chunk at the end."""
    recording = features(parameters, examples.feature_frames(1, parameters) // 8 + 1)
    recording = recording[: examples.feature_frames(1, parameters)]
    run = toy(parameters)
    found = examples.typical(calls(toy_encoder(parameters), run, [recording], parameters), parameters)
    filled = {name: (i["spkcache_lengths"].item(), i["fifo_lengths"].item()) for name, i in found.items()}
    whole = parameters.chunk_frames * 8
    assert filled["cold"] == (0, 0)
    assert 0.4 < sum(filled["half_full"]) / (188 + 40) < 0.6
    assert filled["steady"][0] == filled["final"][0] == 188
    assert found["steady"]["chunk_lengths"] == whole
    assert 0 < found["final"]["chunk_lengths"].item() < whole
    for inputs in found.values():
        frames = sum(inputs[f"{name}_lengths"].item() for name in ("spkcache", "fifo"))
        outputs = examples.drive(run, inputs, parameters)
        assert outputs[PREDS].shape == (frames + -(-inputs["chunk_lengths"].item() // 8), 4)


def test_a_recording_without_a_compression_has_no_steady_state() -> None:
    """The message says how long a recording must be."""
    short = calls(toy_encoder(PARAMETERS), toy(PARAMETERS), [features(PARAMETERS, 60)], PARAMETERS)
    with pytest.raises(ValueError, match=f"expected at least {examples.feature_frames(1, PARAMETERS)} feature frames"):
        examples.typical(short, PARAMETERS)


@pytest.mark.parametrize("compressions", [1, 3])
@pytest.mark.parametrize("parameters", [PARAMETERS, AT_ONCE], ids=["fills slowly", "fills at once"])
def test_a_recording_of_the_length_asked_for_compresses_as_often(
    parameters: StreamingParameters, compressions: int
) -> None:
    """A whole chunk comes after the compression, and a partial one at the end."""
    frames = examples.feature_frames(compressions, parameters)
    recording = features(parameters, frames // 8 + 1)[:frames]
    turns = list(stream(toy(parameters), [recording], parameters))
    counts = [turn.state.compressions for turn in turns]
    assert len(turns[counts.index(compressions) + 1].preds) == parameters.chunk_len
    assert 0 < len(turns[-1].preds) < parameters.chunk_len
