"""Small Sortformers over minutes of speech: our driver says what NeMo's own streaming says."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from converters.models.sortformer import Form, drive, examples, inputs, load, outputs, recorded, streaming_parameters
from converters.networks.sortformer.layout import Sizes
from converters.networks.sortformer.stand_in import stand_in
from diarization.audio import read_recording
from diarization.streaming.drive import Turn, stream
from diarization.streaming.state import Selection, StreamingParameters
from pipeline.types import Arrays, Recording, Runner
from tests.converters.sortformers import run
from tests.diarization.test_streaming_update import topk
from tests.fixtures import FIXTURES, needs_fixtures

SIZES = Sizes(
    mels=32,
    channels=16,
    width=32,
    inner=64,
    conformer_layers=2,
    conformer_heads=4,
    narrow=16,
    narrow_inner=32,
    transformer_layers=2,
    transformer_heads=4,
)
FORM = Form(width=32, mels=32)
LONG = replace(FORM, chunk=25)


def parameters(form: Form, **rules: Any) -> StreamingParameters:
    return replace(streaming_parameters(form), selection=Selection(**rules))


@pytest.fixture(scope="module")
def state() -> Arrays:
    return decisive(stand_in(SIZES, seed=0))


def decisive(state: Arrays) -> Arrays:
    """Return a stand-in that decides, and is never so sure that all its scores are equal but for rounding."""
    last = "sortformer_modules.single_hidden_to_spks"
    weight = state[f"{last}.weight"]
    return state | {f"{last}.weight": weight * (8 / weight.std()), f"{last}.bias": np.full(4, -2, np.float32)}


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    """Return two minutes and a half of meetings and conversation (sample,), the last chunk a partial one."""
    paths = sorted((FIXTURES / "audio").glob("*.wav"))
    return np.concatenate([read_recording(path).samples for path in paths])[:-5000]


@pytest.fixture(scope="module")
def nemo(state: Arrays) -> Any:
    """Return NeMo's model."""
    pytest.importorskip("nemo", reason="NeMo is not installed; install the extra `reference`")
    from converters.networks.sortformer.upstream import nemo_model

    return nemo_model(state, SIZES)


@pytest.fixture(scope="module")
def mel(nemo: Any, audio: np.ndarray) -> np.ndarray:
    """Return NeMo's features of the audio (feature frame, mel)."""
    import torch

    features, length = nemo.process_signal(torch.from_numpy(audio)[None], torch.tensor([len(audio)]))
    return features[0, :, : int(length)].T.numpy()


def nemos(nemo: Any, mel: np.ndarray, form: Form) -> np.ndarray:
    """Return what NeMo's own synchronous streaming says of the features (frame, speaker)."""
    import torch

    modules = nemo.sortformer_modules
    modules.chunk_len, modules.chunk_left_context, modules.chunk_right_context = form.chunk, form.left, form.right
    modules.fifo_len, modules.spkcache_len = form.fifo, form.spkcache
    modules.spkcache_update_period = form.update_period
    with torch.inference_mode():
        signal = torch.from_numpy(np.ascontiguousarray(mel.T))[None]
        return nemo.forward_streaming(signal, torch.tensor([len(mel)]))[0].numpy()


def ours(state: Arrays, form: Form) -> Runner:
    """Return our torch network as a runner."""
    network, names = load(state, form), [tensor.name for tensor in outputs(form)]
    return lambda inputs: run(network, inputs, names)


def rollout(turns: Iterator[Turn]) -> tuple[np.ndarray, Turn]:
    """Return the predictions of a recording, and its last turn."""
    made = list(turns)
    return np.concatenate([turn.preds for turn in made]), made[-1]


@needs_fixtures
@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.parametrize(
    ("form", "network", "frames"),
    [(FORM, "ours", 5007), (LONG, "nemo's", 5007), (LONG, "ours", 14968)],
    ids=["default", "long by nemo", "long"],
)
def test_a_stream_is_nemos(nemo: Any, mel: np.ndarray, state: Arrays, form: Form, network: str, frames: int) -> None:
    """Over minutes, through many compressions and silence: to 1e-5, where torch settles equal scores for both."""
    from converters.networks.sortformer.upstream import nemo_runner

    mel = mel[:frames]
    runner = ours(state, form) if network == "ours" else nemo_runner(nemo, "streaming", form.frames)
    preds, last = rollout(stream(runner, [mel], parameters(form, highest=topk)))
    assert last.state.compressions > frames / 400
    assert last.state.silence_frames > 50
    assert 0 < len(last.preds) < form.chunk
    np.testing.assert_allclose(preds, nemos(nemo, mel, form), rtol=0, atol=1e-5)


@needs_fixtures
@pytest.mark.slow
@pytest.mark.reference
def test_our_order_of_equal_scores_changes_no_decision(nemo: Any, mel: np.ndarray, state: Arrays) -> None:
    """NeMo leaves the order of frames that are in the cache twice to torch; ours moves probabilities by 0.03."""
    preds, _ = rollout(stream(ours(state, LONG), [mel], parameters(LONG)))
    theirs = nemos(nemo, mel, LONG)
    assert np.abs(preds - theirs).max() < 0.05
    assert ((preds > 0.5) == (theirs > 0.5)).mean() > 0.999


@pytest.mark.parametrize("form", [LONG, replace(FORM, chunk=340, right=40, update_period=300)], ids=["long", "high"])
def test_recorded_states_are_calls_of_the_network(state: Arrays, form: Form) -> None:
    """From recordings shorter than the cache takes to fill: four calls, and what is compared are their valid frames."""
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000 * 5).astype(np.float32)
    found = list(recorded(state, form, [Recording("noise", samples, 16_000, "0" * 64)]))
    assert [example.name for example in found] == ["cold", "half_full", "steady", "final"]
    shapes = {tensor.name: tensor.shape for tensor in inputs(form)}
    for example in found:
        assert {name: array.shape for name, array in example.inputs.items()} == shapes
        remembered = sum(int(example.inputs[f"{name}_lengths"][0]) for name in ("spkcache", "fifo"))
        heard = -(-int(example.inputs["chunk_lengths"][0]) // 8)
        preds = drive(ours(state, form), example.inputs, form)["speaker_preds"]
        assert preds.shape == (remembered + heard, 4)
        assert (preds > 0).all()


def test_a_recording_shorter_than_the_cache_takes_is_repeated(state: Arrays) -> None:
    """The rollout of an example compresses the cache, whatever there is to listen to."""
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000 * 5).astype(np.float32)
    (example,) = examples(LONG, [Recording("noise", samples, 16_000, "0" * 64)])
    found = drive(ours(state, LONG), example.inputs, LONG)
    assert found["compressions"][-1] >= 1
    assert len(found["speaker_preds"]) == -(-len(example.inputs["features"]) // 8)
