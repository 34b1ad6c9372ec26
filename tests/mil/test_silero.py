"""Eight real programs by other people, streamed over speech with their state fed back.

Each call takes 576 samples at 16 kHz: 64 of context and a frame of 512 (32 ms), and gives one probability of speech.
The upstream network is the ONNX file of silero-vad 6.0.0, called the same way.
"""

import importlib.util
import wave
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import mil
from tests.fixtures import FIXTURES, needs_fixtures

pytestmark = needs_fixtures

FRAME, CONTEXT, HIDDEN = 512, 64, 128
# Mean and largest difference of the probability from the full program's, both in float32, as first measured here.
DISTANCES = {
    "int8": (0.01894, 0.2345),
    "mixed": (0.01700, 0.2282),
    "palette_2bit": (0.59835, 0.9558),
    "palette_4bit": (0.31513, 0.9397),
    "palette_6bit": (0.02995, 0.4047),
    "palette_8bit": (0.01684, 0.2038),
    "pruned_int8": (0.01736, 0.1931),
}


def package(name: str) -> Path:
    (path,) = (FIXTURES / "apple_pairs" / f"silero_{name}").glob("*.mlpackage")
    return path


@cache
def frames() -> np.ndarray:
    """The recording as the network takes it: (call, 576) float32, each with the 64 samples before it."""
    with wave.open(str(FIXTURES / "audio" / "sample.wav")) as file:
        assert file.getframerate() == 16000
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    samples = np.concatenate([np.zeros(CONTEXT, np.float32), pcm.astype(np.float32) / 32768])
    count = (len(samples) - CONTEXT) // FRAME
    return np.stack([samples[k * FRAME : k * FRAME + CONTEXT + FRAME] for k in range(count)])


@cache
def streamed(name: str, precision: str = "declared") -> np.ndarray:
    """The probability of speech per frame: (call,)."""
    program = mil.load(package(name))
    state = {key: np.zeros((1, HIDDEN), np.float32) for key in ("hidden_state", "cell_state")}
    probabilities = []
    for frame in frames():
        outputs = program.run({"audio_input": frame[None], **state}, precision)
        probabilities.append(outputs["vad_output"].item())
        state = {key: outputs[f"new_{key}"] for key in state}
    return np.array(probabilities)


def upstream_network() -> onnx.ModelProto:
    """Silero's own network for 16 kHz; skips where the package is not installed."""
    found = importlib.util.find_spec("silero_vad")
    if found is None:
        pytest.skip("silero-vad is not installed: pip install --no-deps silero-vad==6.0.0")
    return onnx.load(Path(found.submodule_search_locations[0]) / "data" / "silero_vad_16k_op15.onnx")


def upstream(network: onnx.ModelProto) -> np.ndarray:
    """The probability of speech per frame from onnxruntime: (call,)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(network.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rate = {"sr": np.array(16000)} if any(item.name == "sr" for item in session.get_inputs()) else {}
    state = np.zeros((2, 1, HIDDEN), np.float32)
    probabilities = []
    for frame in frames():
        output, state = session.run(None, {"input": frame[None], "state": state, **rate})
        probabilities.append(output.item())
    return np.array(probabilities)


def with_the_programs_changes(network: onnx.ModelProto) -> onnx.ModelProto:
    """The upstream network with what the program's author changed: fp16 weights outside the LSTM, and an epsilon.

    The program adds the smallest fp16 number, 2^-24, to the power spectrum before its square root.
    """
    graph = network.graph
    for weight in graph.initializer:
        if "rnn" not in weight.name:
            rounded = onnx.numpy_helper.to_array(weight).astype(np.float16).astype(np.float32)
            weight.CopyFrom(onnx.numpy_helper.from_array(rounded, weight.name))
    (place,) = (index for index, node in enumerate(graph.node) if node.op_type == "Sqrt")
    graph.initializer.append(onnx.numpy_helper.from_array(np.float32(2**-24), "epsilon"))
    graph.node.insert(place, onnx.helper.make_node("Add", [graph.node[place].input[0], "epsilon"], ["raised"]))
    graph.node[place + 1].input[0] = "raised"
    return network


def test_the_full_precision_program_is_the_upstream_network() -> None:
    """Beside fp16 weights and the epsilon there is no difference: 6e-6 over 937 frames of recurrence."""
    expected = upstream(with_the_programs_changes(upstream_network()))
    np.testing.assert_allclose(streamed("fp", "float32"), expected, rtol=0, atol=2e-5)


def test_the_epsilon_is_what_differs_from_the_network_as_published() -> None:
    """Against the untouched network the program differs by up to 0.068, all but 0.004 of it the epsilon's."""
    difference = np.abs(streamed("fp", "float32") - upstream(upstream_network()))
    assert 0.06 < difference.max() < 0.075
    assert difference.mean() < 0.006


def test_the_modes_agree() -> None:
    """float32 is within 2e-6 of float64 and declared within 0.02, over half a minute of state fed back."""
    meant = streamed("fp", "float64")
    np.testing.assert_allclose(streamed("fp", "float32"), meant, rtol=0, atol=5e-6)
    np.testing.assert_allclose(streamed("fp", "declared"), meant, rtol=0, atol=0.02)


@pytest.mark.parametrize("name", DISTANCES)
def test_a_compressed_program_is_as_far_from_the_full_one_as_measured(name: str) -> None:
    """Every compressed form decodes to the weights it should: the distance is the compression's own, and recorded."""
    mean, largest = DISTANCES[name]
    difference = np.abs(streamed(name, "float32") - streamed("fp", "float32"))
    assert difference.mean() == pytest.approx(mean, rel=0.02)
    assert difference.max() == pytest.approx(largest, rel=0.02)


def test_the_network_hears_the_speech() -> None:
    """The recording is half speech: the full program and those that survived compression say so frame by frame."""
    speech = streamed("fp") > 0.5
    assert 0.3 < speech.mean() < 0.95
    for name in ("int8", "mixed", "palette_6bit", "palette_8bit", "pruned_int8"):
        assert np.mean((streamed(name) > 0.5) == speech) > 0.97


@pytest.mark.parametrize("name", ["fp", *DISTANCES])
def test_a_compiled_bundle_runs_as_its_package_does(name: str) -> None:
    """What Apple's compiler made of each package gives the same bits, from the text of its `model.mil`."""
    (bundle,) = (FIXTURES / "apple_pairs" / f"silero_{name}").glob("*.mlmodelc")
    inputs = {"audio_input": frames()[400][None], **dict.fromkeys(("hidden_state", "cell_state"), np.ones((1, HIDDEN)))}
    expected, found = (mil.load(path).run(inputs) for path in (package(name), bundle))
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)


def test_absent_weights_are_one_sentence() -> None:
    """A program whose weights were not copied with it says which file it misses, where it first needs it."""
    path = next((FIXTURES / "apple_pairs" / "parakeet160_spec8").glob("*.mlpackage"))
    program = mil.load(path)
    inputs = {feature.name: np.zeros(feature.default, feature.type.element.numpy) for feature in program.inputs()}
    with pytest.raises(mil.MilError, match=r"op `conv` .*weight\.bin: the program needs it and it is not there"):
        program.run(inputs)
