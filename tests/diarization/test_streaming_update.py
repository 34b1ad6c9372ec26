"""The streaming state, by its rules and against NeMo's own."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from diarization.streaming.cache import SILENCE, selected
from diarization.streaming.state import Selection, State, StreamingParameters, cold_start, earliest_of_highest
from diarization.streaming.update import overflows, step

CONTEXTS = {
    "default": StreamingParameters(6, 7, 40, 31),
    "low": StreamingParameters(6, 7, 188, 144),
    "high": StreamingParameters(340, 40, 40, 300),
    "efficient": StreamingParameters(25, 7, 40, 31),
    "no fifo": StreamingParameters(12, 3, 0, 1, chunk_left_context=0),
    "period beyond the fifo": StreamingParameters(5, 0, 20, 400, chunk_left_context=9),
    "small cache": StreamingParameters(7, 1, 10, 8, spkcache_len=24, selection=Selection(silence_frames=2)),
    "no silence": StreamingParameters(9, 2, 30, 12, spkcache_len=60, selection=Selection(silence_frames=0)),
    "no boost": StreamingParameters(9, 2, 30, 12, spkcache_len=61, selection=Selection(latest_boost=0)),
}
SMALL = replace(CONTEXTS["small cache"], embedding_size=1)  # (24 / 4 − 2) = 4 places for each speaker


def conversation(generator: np.random.Generator, frames: int, speakers: int = 4) -> np.ndarray:
    """Return probabilities (frame, speaker): turns of all lengths, overlap and silence, most frames decided."""
    changes = generator.random((frames, speakers)) < 0.15
    talking = np.cumsum(changes, axis=0) % 3 == generator.integers(3, size=speakers)
    logits = np.where(talking, 4, -4) + generator.normal(0, 2.5, (frames, speakers))
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def test_frames_stay_in_the_fifo_until_it_is_full() -> None:
    """The chunk without its context is queued, its predictions are returned, and nothing is forgotten."""
    parameters = StreamingParameters(6, 7, 40, 31, embedding_size=2)
    embeddings, preds = np.arange(28, dtype=np.float32).reshape(14, 2), conversation(np.random.default_rng(0), 14)
    state, decided = step(cold_start(parameters), embeddings, preds, slice(1, -7), parameters)
    np.testing.assert_array_equal(state.fifo, embeddings[1:7])
    np.testing.assert_array_equal(decided, preds[1:7])
    assert len(state.spkcache) == 0
    assert not overflows(state, parameters)


def test_the_oldest_frames_move_to_the_cache() -> None:
    """A full FIFO gives up its first `spkcache_update_period` frames, and silence among them is averaged."""
    state = replace(cold_start(SMALL), fifo=np.arange(10, dtype=np.float32)[:, np.newaxis])
    preds = np.full((12, 4), 0.6, np.float32)
    preds[[2, 5]] = 0.04
    state, _ = step(state, np.array([[10.0], [11.0]], np.float32), preds, slice(0, None), SMALL)
    assert state.spkcache.ravel().tolist() == list(range(8))
    assert state.fifo.ravel().tolist() == [8, 9, 10, 11]
    assert (state.silence.item(), state.silence_frames, state.compressions) == (3.5, 2, 0)


def test_predictions_must_be_those_of_what_was_given() -> None:
    """A prediction too many or too few would shift all that follows."""
    with pytest.raises(ValueError, match="13 predictions for 0 frames of the cache, 0 of the FIFO and 14"):
        step(cold_start(SMALL), np.zeros((14, 1)), np.zeros((13, 4)), slice(0, None), SMALL)


def test_each_speaker_has_his_places_in_the_order_of_time_with_silence_behind() -> None:
    """Four speakers in turn, eight frames each, equally sure: everybody keeps three quarters of his four places.

    The newest frames, which are the fourth speaker's, win the four that are left over: three, until he has one and a
    half times his places, and then the earliest frame that there is.
    """
    preds = np.repeat(np.eye(4), 8, axis=0).astype(np.float32) * 0.9 + 0.02
    kept = selected(preds, SMALL)
    assert kept.tolist() == [
        *(0, 1, 2, 3, SILENCE, SILENCE),
        *(8, 9, 10, SILENCE, SILENCE),
        *(16, 17, 18, SILENCE, SILENCE),
        *(24, 25, 26, 27, 28, 29, SILENCE, SILENCE),
    ]


def test_what_is_no_speech_is_not_kept() -> None:
    """One speaker in three frames: the rest of the cache is silence."""
    preds = np.full((30, 4), 0.01, np.float32)
    preds[[4, 9, 20], 1] = 0.9
    kept = selected(preds, SMALL)
    assert kept[kept != SILENCE].tolist() == [4, 9, 20]
    assert kept.tolist()[:5] == [SILENCE, SILENCE, 4, 9, 20]


def test_overlap_is_kept_only_of_speakers_with_little_of_their_own() -> None:
    """Speaker 0 has frames of his own, speaker 1 none but overlap: it is kept for him, not for the first."""
    preds = np.full((30, 4), 0.01, np.float32)
    preds[:10, 0] = 0.9
    preds[10:13, :2] = 0.9
    kept = selected(preds, SMALL)
    of_first, of_second = np.split(kept, [np.flatnonzero(kept == SILENCE)[1] + 1])
    assert of_first[of_first != SILENCE].tolist() == list(range(10))
    assert of_second[of_second != SILENCE].tolist() == [10, 11, 12]


def test_of_equal_scores_the_earlier_frame_is_kept() -> None:
    """Probabilities that round to one leave the order open; here it is the order of time, on every machine."""
    preds = np.zeros((200, 4), np.float32)
    preds[:, 2] = 1
    kept = selected(preds, replace(SMALL, selection=Selection(silence_frames=2, latest_boost=0)))
    assert kept[kept != SILENCE].tolist() == list(range(16))


@pytest.mark.parametrize(
    ("field", "value"), [("chunk_len", 0), ("fifo_len", -1), ("spkcache_len", 15), ("spkcache_update_period", 1.5)]
)
def test_lengths_that_make_no_sense_are_refused(field: str, value: Any) -> None:
    """The message names the length and the bound."""
    with pytest.raises(ValueError, match=f"{field}: {value}; expected a whole number from"):
        replace(CONTEXTS["default"], **{field: value})


@pytest.fixture(scope="module")
def nemo() -> type:
    """Return NeMo's class with the streaming update."""
    pytest.importorskip("nemo", reason="NeMo is not installed; install the extra `reference`")
    from converters.upstream import torchaudio

    torchaudio()
    from nemo.collections.asr.modules.sortformer_modules import SortformerModules

    return SortformerModules


def nemo_modules(nemo: type, parameters: StreamingParameters) -> Any:
    """Return NeMo's object with our parameters under its names."""
    rule = parameters.selection
    names = [
        "subsampling_factor",
        "spkcache_len",
        "fifo_len",
        "chunk_len",
        "spkcache_update_period",
        "chunk_left_context",
        "chunk_right_context",
    ]
    modules = nemo(
        num_spks=parameters.speakers,
        fc_d_model=parameters.embedding_size,
        spkcache_sil_frames_per_spk=rule.silence_frames,
        pred_score_threshold=rule.score_floor,
        scores_boost_latest=rule.latest_boost,
        sil_threshold=rule.silence_threshold,
        strong_boost_rate=rule.strong_rate,
        weak_boost_rate=rule.weak_rate,
        min_pos_scores_rate=rule.positive_rate,
        **{name: getattr(parameters, name) for name in names},
    )
    return modules.eval()


def topk(scores: np.ndarray, count: int) -> np.ndarray:
    """Return where the highest scores are, equal ones as torch has them."""
    import torch

    return torch.topk(torch.from_numpy(np.ascontiguousarray(scores)), count, sorted=False).indices.numpy()


@pytest.mark.reference
@pytest.mark.parametrize("decimals", [0, 7])
@pytest.mark.parametrize("context", CONTEXTS)
def test_every_state_is_nemos(nemo: type, context: str, decimals: int) -> None:
    """Chunk after chunk, through six compressions and a partial last chunk: the same frames kept, the same silence.

    Every embedding is unlike all others, so equal caches are equal selections; only the mean of silence is rounded.
    Where scores are equal torch decides for both; they mostly are where probabilities are zero or one.
    """
    parameters = with_embeddings_of_8(context, topk)
    ours = cold_start(parameters)
    for embeddings, preds, inside, their_state, their_decided in nemos_conversation(nemo, parameters, decimals):
        ours, decided = step(ours, embeddings, preds, inside, parameters)
        np.testing.assert_array_equal(decided, their_decided)
        assert_same(ours, their_state)
    assert ours.compressions >= 6
    assert ours.silence_frames > 0


@pytest.mark.reference
@pytest.mark.parametrize("context", CONTEXTS)
def test_where_scores_are_equal_only_the_order_of_the_cache_is_ours(nemo: type, context: str) -> None:
    """From each of NeMo's states our next one holds the same frames; those kept twice may have changed places.

    The first compression knows no frame twice, and is the same to the last place.
    """
    parameters = with_embeddings_of_8(context, earliest_of_highest)
    ours = cold_start(parameters)
    for embeddings, preds, inside, their_state, _ in nemos_conversation(nemo, parameters, decimals=7):
        ours, _ = step(ours, embeddings, preds, inside, parameters)
        if ours.compressions == 1:
            assert_same(ours, their_state)
        theirs = replace(ours, **as_ours(their_state))
        np.testing.assert_array_equal(ours.fifo, theirs.fifo)
        np.testing.assert_allclose(in_order(ours.spkcache), in_order(theirs.spkcache), rtol=0, atol=1e-6)
        ours = theirs


def with_embeddings_of_8(context: str, highest: Callable[[np.ndarray, int], np.ndarray]) -> StreamingParameters:
    """Return the parameters of a context, with embeddings quick to compare."""
    parameters = CONTEXTS[context]
    return replace(parameters, embedding_size=8, selection=replace(parameters.selection, highest=highest))


def nemos_conversation(
    nemo: type, parameters: StreamingParameters, decimals: int
) -> Iterator[tuple[np.ndarray, np.ndarray, slice, Any, np.ndarray]]:
    """Yield chunks, their predictions, where the chunk lies in its context, and NeMo's state and decision after it."""
    import torch

    theirs = nemo_modules(nemo, parameters)
    state = theirs.init_streaming_state(batch_size=1)
    generator = np.random.default_rng(0)
    left = compressions = 0
    last = False
    while not last:
        last = compressions >= 6
        length = max(1, parameters.chunk_len // 3) if last else parameters.chunk_len
        right = 0 if last else parameters.chunk_right_context
        embeddings = generator.normal(size=(left + length + right, 8)).astype(np.float32)
        remembered = state.spkcache.shape[1] + state.fifo.shape[1]
        preds = conversation(generator, remembered + len(embeddings)).round(decimals)
        cache = state.spkcache
        state, decided = theirs.streaming_update(
            state, torch.from_numpy(embeddings)[None], torch.from_numpy(preds)[None], left, right
        )
        compressions += cache is not state.spkcache and state.spkcache_preds is not None
        yield embeddings, preds, slice(left, left + length), state, decided[0].numpy()
        left = min(parameters.chunk_left_context, left + length)


def as_ours(state: Any) -> dict[str, Any]:
    """Return the arrays of NeMo's state under our names."""
    preds = None if state.spkcache_preds is None else state.spkcache_preds[0].numpy()
    return {
        "fifo": state.fifo[0].numpy(),
        "spkcache": state.spkcache[0].numpy(),
        "spkcache_preds": preds,
        "silence": state.mean_sil_emb[0].numpy(),
        "silence_frames": state.n_sil_frames.item(),
    }


def assert_same(ours: State, their_state: Any) -> None:
    """Assert that two states are equal, and the mean of silence to within rounding."""
    theirs = replace(ours, **as_ours(their_state))
    np.testing.assert_array_equal(ours.fifo, theirs.fifo)
    assert ours.silence_frames == theirs.silence_frames
    np.testing.assert_allclose(ours.silence, theirs.silence, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.spkcache, theirs.spkcache, rtol=0, atol=1e-6)
    if theirs.spkcache_preds is not None:
        np.testing.assert_array_equal(ours.spkcache_preds, theirs.spkcache_preds)


def in_order(frames: np.ndarray) -> np.ndarray:
    """Return frames (frame, embedding) sorted, to be compared whatever their order."""
    return frames[np.lexsort(frames.T.round(4))]
