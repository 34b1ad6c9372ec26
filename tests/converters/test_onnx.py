"""ONNX files: what is in them, that they are the same bytes each time, and that they run without anything of ours."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from converters.formats import onnx as format_
from converters.formats.onnx import Options
from converters.models import segmentation, sortformer, wespeaker
from converters.models.segmentation import Form
from converters.networks.sortformer.layout import Sizes
from converters.networks.sortformer.stand_in import stand_in
from converters.onnx_graphs.published import receptive_field
from diarization.audio import read_recording
from diarization.powerset import powerset
from diarization.streaming.examples import FEATURES, feature_frames
from pipeline.tensors import write_tensors
from pipeline.types import Arrays, QuernError, Range, Subject, Tensor
from tests.converters.sortformers import STREAMING, tiny_state
from tests.converters.sortformers import run as run_module
from tests.fixtures import FIXTURES, needs_fixtures
from verify import streaming

ROOT = Path(__file__).parents[2]
PRECISIONS = ("fp32", "fp16", "int8")


def _converted(folder: Path, form: Form, precision: str = "fp32", state: dict | None = None) -> Path:
    destination = folder / f"{precision}.onnx"
    network = segmentation.load(state or segmentation.synthetic(0), form)
    inputs, outputs = segmentation.inputs(form), segmentation.outputs(form)
    format_.convert(network, inputs, outputs, {"origin": "a test"}, Options(precision), destination)
    return destination


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a small network in every precision, for batches of any size."""
    folder = tmp_path_factory.mktemp("onnx")
    return {name: _converted(folder, Form(batch=(1, 32), window_s=2), name) for name in PRECISIONS}


@pytest.fixture(scope="module")
def trained() -> dict[str, np.ndarray]:
    return segmentation.read({"model.safetensors": FIXTURES / "segmentation-3.0" / "model.safetensors"})


def _noise(batch: int, seconds: int = 2) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, 1, 16000 * seconds)).astype(np.float32) / 8


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_interface_is_as_declared(files: dict[str, Path], precision: str) -> None:
    """Names, float32 types in every precision, what the axes mean, and a batch that is left to the caller."""
    graph = onnx.load(files[precision]).graph
    [audio], [segments] = graph.input, graph.output
    assert (audio.name, segments.name) == ("audio", "segments")
    assert segments.doc_string == "(batch, frame, class): log probability"
    assert {v.type.tensor_type.elem_type for v in (audio, segments)} == {onnx.TensorProto.FLOAT}
    shapes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (audio, segments)]
    assert shapes == [["batch", 1, 32000], ["batch", 115, 7]]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_checker_and_strict_shape_inference_accept_it(files: dict[str, Path], precision: str) -> None:
    """So will any other tool that reads the format."""
    model = onnx.load(files[precision])
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


def test_the_graph_holds_the_networks_operations_and_no_others(files: dict[str, Path]) -> None:
    """One operation for each layer: no states of zeros, no arithmetic on shapes, nothing that is not used."""
    graph = onnx.load(files["fp32"]).graph
    found = {node.op_type for node in graph.node}
    layers = {"Conv", "InstanceNormalization", "MaxPool", "Abs", "LeakyRelu", "LSTM", "MatMul", "Add"}
    assert found == layers | {"Transpose", "Reshape", "Constant", "ReduceMax", "Sub", "ReduceLogSumExp", "Identity"}
    assert [len(node.input) for node in graph.node if node.op_type == "LSTM"] == [4] * 4
    read = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= read
    assert not [tensor.name for tensor in graph.initializer if "::" in tensor.name]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_trace_of_how_and_where_it_was_made_is_left(files: dict[str, Path], precision: str) -> None:
    """Neither versions nor paths, nor the library's own marks."""
    model = onnx.load(files[precision])
    assert (model.producer_name, model.producer_version, model.doc_string) == ("quern", "", "")
    assert not any(node.doc_string for node in model.graph.node)
    content = files[precision].read_bytes()
    assert not [mark for mark in (b"torch", b"/work", b"/tmp", b"onnx.quant", b".py") if mark in content]


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    """Whatever the order of hashes is in them."""
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]);"
        "from tests.converters.test_onnx import PRECISIONS, Form, _converted;"
        "forms = {'fixed': Form(window_s=2), 'dynamic': Form(batch=(1, 4), window_s=2)};"
        "[_converted(Path(sys.argv[1]) / kind, form, name) for kind, form in forms.items() for name in PRECISIONS]"
    )
    for seed in ("1", "2"):
        for kind in ("fixed", "dynamic"):
            (tmp_path / seed / kind).mkdir(parents=True)
        command = [sys.executable, "-c", code, str(tmp_path / seed), str(ROOT)]
        subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": seed}, cwd=tmp_path, check=True)
    written = sorted((tmp_path / "1").rglob("*.onnx"))
    assert len(written) == 2 * len(PRECISIONS)
    for file in written:
        assert file.read_bytes() == (tmp_path / "2" / file.parent.name / file.name).read_bytes(), file


@pytest.mark.parametrize(("precision", "most"), [("fp32", 2e-4), ("fp16", 0.1), ("int8", 0.9)])
def test_it_computes_what_the_network_computes(files: dict[str, Path], precision: str, most: float) -> None:
    """For every size of batch, and as distributions that sum to one."""
    network = segmentation.load(segmentation.synthetic(0), Form(window_s=2))
    run = format_.runner(files[precision], "declared")
    for batch in (1, 3):
        audio = _noise(batch)
        with torch.inference_mode():
            expected = network(torch.from_numpy(audio)).numpy()
        found = run({"audio": audio})["segments"]
        assert np.abs(np.exp(found) - np.exp(expected)).max() < most
        np.testing.assert_allclose(np.logaddexp.reduce(found, axis=-1), 0, atol=1e-5)


def test_half_precision_halves_and_eight_bits_shrink_further(files: dict[str, Path]) -> None:
    """Sizes as the precisions promise."""
    sizes = {name: path.stat().st_size for name, path in files.items()}
    assert sizes["fp16"] < 0.51 * sizes["fp32"]
    assert sizes["int8"] < 0.3 * sizes["fp32"]


def test_eight_bit_weights_are_unsigned(files: dict[str, Path]) -> None:
    """Those of LSTMs too: processors without VNNI saturate sums with signed ones, and lose 1 % of the frames by it."""
    graph = onnx.load(files["int8"]).graph
    kinds = {tensor.data_type for tensor in graph.initializer} - {onnx.TensorProto.FLOAT}
    assert kinds == {onnx.TensorProto.UINT8}
    lstm = next(node for node in graph.node if node.op_type == "DynamicQuantizeLSTM")
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weight, scale, zero = (stored[lstm.input[place]] for place in (1, 8, 9))  # (direction, feature, gate)
    exact = {t.name: numpy_helper.to_array(t) for t in onnx.load(files["fp32"]).graph.initializer}["lstm.LSTM.W"]
    found = (weight.astype(int) - zero[:, np.newaxis]) * scale[:, np.newaxis]
    assert np.abs(found.swapaxes(1, 2) - exact).max() <= scale.max() / 1.99


def test_audio_is_not_rounded_to_half_precision(files: dict[str, Path]) -> None:
    """The samples of quiet recordings, and their variance, are too small for it."""
    audio = _noise(1)
    run = format_.runner(files["fp16"], "declared")
    normal, quiet = run({"audio": audio}), run({"audio": audio * np.float32(2**-12)})
    exact = format_.runner(files["fp32"], "declared")({"audio": audio * np.float32(2**-12)})
    assert np.abs(np.exp(quiet["segments"]) - np.exp(exact["segments"])).max() < 0.1
    assert np.abs(normal["segments"] - quiet["segments"]).max() > 0


def test_runtimes_find_the_geometry_of_the_network(files: dict[str, Path]) -> None:
    """The keys and numbers that sherpa-onnx reads from the files that are published for it."""
    found = {entry.key: entry.value for entry in onnx.load(files["int8"]).metadata_props}
    assert found.pop("origin") == "a test"
    sets = [np.flatnonzero(row).tolist() for row in powerset(3, 2)]
    assert json.loads(found.pop("powerset_mapping")) == sets == [[], [0], [1], [2], [0, 1], [0, 2], [1, 2]]
    assert found == {
        "model_type": "pyannote-segmentation-3.0",
        "version": "1",
        "sample_rate": "16000",
        "window_size": "32000",
        "receptive_field_size": "991",
        "receptive_field_shift": "270",
        "num_classes": "7",
        "num_speakers": "3",
        "powerset_max_classes": "2",
    }


@pytest.mark.reference
def test_the_receptive_field_is_upstreams() -> None:
    """As pyannote.audio computes it for its own network."""
    from converters.upstream import pyannote_segmentation

    network, _ = pyannote_segmentation()
    upstream = network(sincnet={"stride": 10})
    one, two = (upstream.receptive_field_size(num_frames=n) for n in (1, 2))
    assert receptive_field() == (one, two - one)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_file_runs_where_nothing_of_ours_is(files: dict[str, Path], precision: str, tmp_path: Path) -> None:
    """With onnxruntime alone, and equal to what our runner returns; int8 depends on the number of threads."""
    audio = _noise(2)
    np.save(tmp_path / "audio.npy", audio)
    code = (
        "import sys, numpy, onnxruntime;"
        "options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1;"
        "session = onnxruntime.InferenceSession(sys.argv[1], options);"
        "[segments] = session.run(None, {'audio': numpy.load('audio.npy')});"
        "numpy.save('segments.npy', segments);"
        "assert not [m for m in ('torch', 'converters', 'pipeline', 'onnx') if m in sys.modules]"
    )
    subprocess.run([sys.executable, "-c", code, str(files[precision])], cwd=tmp_path, check=True)
    found, ours = np.load(tmp_path / "segments.npy"), format_.runner(files[precision], "declared")({"audio": audio})
    np.testing.assert_allclose(found, ours["segments"], atol=1e-4)


def test_wespeaker_runs_where_nothing_of_ours_is(tmp_path: Path) -> None:
    """Audio and masks to embeddings, with onnxruntime alone, equal to what our runner returns."""
    form = wespeaker.Form()
    module = wespeaker.load(wespeaker.synthetic(0), form)
    path = tmp_path / "m.onnx"
    format_.convert(module, wespeaker.inputs(form), wespeaker.outputs(form), {}, Options(), path)
    inputs = {"audio": _noise(1, seconds=10), "masks": np.ones((3, 589), np.float32)}
    np.savez(tmp_path / "inputs.npz", **inputs)
    code = (
        "import sys, numpy, onnxruntime;"
        "options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1;"
        "session = onnxruntime.InferenceSession(sys.argv[1], options);"
        "numpy.save('found.npy', session.run(None, dict(numpy.load('inputs.npz')))[0]);"
        "assert not [m for m in ('torch', 'converters', 'pipeline', 'onnx') if m in sys.modules]"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=tmp_path, check=True)
    found = np.load(tmp_path / "found.npy")
    np.testing.assert_allclose(found, format_.runner(path, "declared")(inputs)["embeddings"], atol=1e-4)


@needs_fixtures
@pytest.mark.parametrize(("precision", "least"), [("fp32", 1.0), ("fp16", 0.995), ("int8", 0.99)])
def test_trained_weights_say_who_speaks_as_the_network_does(
    tmp_path: Path, trained: dict[str, np.ndarray], precision: str, least: float
) -> None:
    """On three windows of each of two recordings."""
    form = Form()
    run = format_.runner(_converted(tmp_path, form, precision, trained), "declared")
    network = segmentation.load(trained, form)
    same = []
    for name in ("sample", "dev00"):
        for example in list(segmentation.examples(form, [read_recording(FIXTURES / "audio" / f"{name}.wav")]))[::9]:
            with torch.inference_mode():
                expected = network(torch.from_numpy(example.inputs["audio"])).numpy()
            same.append((run(example.inputs)["segments"].argmax(-1) == expected.argmax(-1)).mean())
    assert np.mean(same) >= least


class _Scaled(nn.Module):
    """A part that bears half precision, and one that does not."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(64, 64)
        self.outer = nn.Linear(64, 64)
        self.inner.half_precision = True

    def forward(self, values: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.outer(torch.relu(self.inner(values))), lengths + 1


_VALUES = Tensor("values", ("row", "value"), (Range(1, 8), 64), "float32", "activation")
_LENGTHS = Tensor("lengths", ("row",), (Range(1, 8),), "int32", "frame")
_RESULTS = (Tensor("out", ("row", "value"), (Range(1, 8), 64), "float32", "activation"),
            Tensor("next", ("row",), (Range(1, 8),), "int32", "frame"))  # fmt: skip


def test_any_module_with_any_inputs_converts(tmp_path: Path) -> None:
    """Several inputs and outputs, integers among them, by their names; nothing is written that no runtime asks for."""
    module = _Scaled().eval().requires_grad_(False)
    format_.convert(module, (_VALUES, _LENGTHS), _RESULTS, {}, Options(), tmp_path / "m.onnx")
    values, lengths = np.ones((3, 64), np.float32), np.arange(3, dtype=np.int32)
    found = format_.runner(tmp_path / "m.onnx", "float32")({"values": values, "lengths": lengths})
    expected, _ = module(torch.from_numpy(values), torch.from_numpy(lengths))
    np.testing.assert_allclose(found["out"], expected.numpy(), atol=1e-6)
    assert found["next"].tolist() == [1, 2, 3]
    assert not onnx.load(tmp_path / "m.onnx").metadata_props


def test_mixed_precision_is_half_where_the_network_bears_it(tmp_path: Path) -> None:
    """The weights of that part alone are stored in half precision."""
    module = _Scaled().eval().requires_grad_(False)
    format_.convert(module, (_VALUES, _LENGTHS), _RESULTS, {}, Options("mixed"), tmp_path / "m.onnx")
    halves = {
        t.name for t in onnx.load(tmp_path / "m.onnx").graph.initializer if t.data_type == onnx.TensorProto.FLOAT16
    }
    assert {name.split(".")[0] for name in halves} == {"inner"}
    with pytest.raises(QuernError, match="mixed: no part of Linear declares"):
        format_.convert(nn.Linear(64, 64), (_VALUES,), _RESULTS[:1], {}, Options("mixed"), tmp_path / "n.onnx")


def test_wespeaker_converts(tmp_path: Path) -> None:
    """In mixed precision, where one result in half precision is read by many in single precision."""
    form = wespeaker.Form(program="fbank")
    module = wespeaker.load(wespeaker.synthetic(0), form)
    path = tmp_path / "m.onnx"
    format_.convert(module, wespeaker.inputs(form), wespeaker.outputs(form), {}, Options("mixed"), path)
    values = np.random.default_rng(0).standard_normal((1, 1, 80, 998)).astype(np.float32)
    weights = np.ones((1, 589), np.float32)
    found = format_.runner(path, "declared")({"fbank_features": values, "weights": weights})["embedding"]
    expected = module(torch.from_numpy(values), torch.from_numpy(weights)).numpy()
    assert (found * expected).sum() > 0.9999  # both have length 1


_SMALL = Sizes(
    mels=32, channels=16, width=32, inner=64, conformer_layers=2, conformer_heads=4,
    narrow=16, narrow_inner=32, transformer_layers=2, transformer_heads=4,
)  # fmt: skip


@pytest.mark.parametrize("kind", ["streaming", "offline", "preprocessor"])
def test_a_small_sortformer_converts(tmp_path: Path, kind: str) -> None:
    """Its step with all that is kept of the past, its whole window and its mel: every output of each."""
    form = sortformer.Form(kind=kind, spkcache=16, fifo=8, window_s=2.56, width=32, mels=32)
    module = sortformer.load(stand_in(_SMALL, 0), form)
    inputs, outputs = sortformer.inputs(form), sortformer.outputs(form)
    format_.convert(module, inputs, outputs, {}, Options(), tmp_path / "m.onnx")
    arrays = _inputs(inputs)
    found = format_.runner(tmp_path / "m.onnx", "declared")(arrays)
    with torch.inference_mode():
        results = module(*(torch.from_numpy(arrays[tensor.name]) for tensor in inputs))
    for tensor, expected in zip(outputs, results if isinstance(results, tuple) else (results,), strict=True):
        np.testing.assert_allclose(found[tensor.name], expected.numpy(), atol=2e-4, err_msg=tensor.name)


def _inputs(tensors: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """Return noise, and for lengths, which are the integers, a few frames less than the tensor before has room for."""
    generator, found, room = np.random.default_rng(0), {}, 0
    for tensor in tensors:
        if tensor.dtype == "int32":
            found[tensor.name] = np.array([room - 3], np.int32)
        else:
            found[tensor.name] = (generator.standard_normal(tensor.shape) / 4).astype(np.float32)
            room = tensor.shape[tensor.axes.index("frame")] if "frame" in tensor.axes else max(tensor.shape)
    return found


@pytest.mark.parametrize(("precision", "least", "most"), [("fp32", 1.0, 1e-4), ("fp16", 0.95, 0.2), ("int8", 0.9, 0.5)])
def test_a_small_sortformer_streams(tmp_path: Path, precision: str, least: float, most: float) -> None:
    """Through onnxruntime, with the past fed back until the cache was compressed, it decides as the network does."""
    module, parameters = sortformer.load(tiny_state(), STREAMING), sortformer.streaming_parameters(STREAMING)
    inputs, outputs = sortformer.inputs(STREAMING), sortformer.outputs(STREAMING)
    format_.convert(module, inputs, outputs, {}, Options(precision), tmp_path / "m.onnx")

    def network(arrays: Arrays) -> Arrays:
        return run_module(module, {t.name: arrays[t.name] for t in inputs}, [tensor.name for tensor in outputs])

    frames = feature_frames(1, parameters)
    mel = np.random.default_rng(0).normal(-8, 3, (frames, STREAMING.mels)).astype(np.float32)
    rungs = {}
    for name, runner in {"network": network, "declared": format_.runner(tmp_path / "m.onnx", "declared")}.items():
        found = sortformer.drive(runner, {FEATURES: mel}, STREAMING)
        rungs[name] = tmp_path / name
        write_tensors({f"talk/{output}": array for output, array in found.items()}, rungs[name])
    absent = {"upstream": "not here", "float32": "not here"}
    measured = {m.name: m.value for m in streaming.measure(Subject(inputs, outputs, rungs=rungs | absent))}
    assert measured["compressions"] >= 1
    assert measured["agreement"] >= least
    assert measured["max_difference"] < most


def test_half_precision_inputs_are_refused(tmp_path: Path) -> None:
    """The files take and return float32."""
    with pytest.raises(QuernError, match=r"audio: declared float16; ONNX files take and return float32"):
        _converted(tmp_path, Form(io="fp16", window_s=2))


def test_axes_of_one_name_have_one_length(tmp_path: Path) -> None:
    """A symbol of the file stands for one number."""
    shorter = Tensor("lengths", ("row",), (Range(1, 4),), "int32", "frame")
    with pytest.raises(QuernError, match=r"lengths: axis row from 1 to 4, where another tensor's is from 1 to 8"):
        format_.convert(_Scaled(), (_VALUES, shorter), _RESULTS, {}, Options(), tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda content: content[: len(content) // 2], r"bytes that are no ONNX model, or not all of one"),
        (lambda content: b"RIFF" + content, r"bytes that are no ONNX model"),
        (lambda content: b"", r"0 bytes that are no ONNX model: there is no graph in them"),
    ],
)
def test_a_file_that_is_no_whole_model_is_one_sentence(files, tmp_path, damage, sentence) -> None:
    """With its path and its size."""
    (tmp_path / "m.onnx").write_bytes(damage(files["fp32"].read_bytes()))
    with pytest.raises(QuernError, match=sentence) as caught:
        format_.runner(tmp_path / "m.onnx", "declared")
    assert str(caught.value).startswith(str(tmp_path / "m.onnx"))
    assert "\n" not in str(caught.value)


def _other_domain(model: onnx.ModelProto) -> None:
    model.opset_import.add(domain="ai.example", version=1)


def _later_version(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def _later_format(model: onnx.ModelProto) -> None:
    model.ir_version = 99


def _wrong_shape(model: onnx.ModelProto) -> None:
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "classifier.MatMul.B")
    weight.dims[:] = [64, 14]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_other_domain, r"needs operations of the set 'ai.example'; expected those of ONNX or of com.microsoft only"),
        (_later_version, r"not a valid ONNX model|onnxruntime cannot run it"),
        (_later_format, r"not a valid ONNX model: .*ir_version 99"),
        (_wrong_shape, r"not a valid ONNX model: .*MatMul"),
    ],
)
def test_a_model_that_cannot_run_is_one_sentence(files, tmp_path, change, sentence) -> None:
    """Of another operation set, of another version, or with weights of another shape."""
    model = onnx.load(files["fp32"])
    change(model)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(QuernError, match=sentence) as caught:
        format_.runner(tmp_path / "m.onnx", "declared")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    """With the system's reason."""
    with pytest.raises(QuernError, match=r"absent\.onnx: cannot read the file: No such file"):
        format_.runner(tmp_path / "absent.onnx", "declared")


def test_a_model_that_fails_while_it_runs_is_one_sentence(tmp_path: Path) -> None:
    """The runtime's own reason, where only the input tells that the model cannot work."""
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Reshape", ["values", "shape"], ["out"])],
        "one",
        [onnx.helper.make_tensor_value_info("values", onnx.TensorProto.FLOAT, ["row"])],
        [onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [2, 2])],
        [numpy_helper.from_array(np.array([2, 2]), "shape")],
    )
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 15)])
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(QuernError, match=r"onnxruntime cannot run it: .*Reshape") as caught:
        format_.runner(tmp_path / "m.onnx", "declared")({"values": np.ones(3, np.float32)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"waveform": _noise(1)}, r"inputs waveform; expected audio"),
        ({}, r"inputs none; expected audio"),
        ({"audio": _noise(1, seconds=1)}, r"audio: shape \[1, 1, 16000\]; expected \[any, 1, 32000\]"),
        ({"audio": _noise(1)[0]}, r"audio: shape \[1, 32000\]; expected \[any, 1, 32000\]"),
        ({"audio": _noise(1)[:0]}, r"audio: shape \[0, 1, 32000\]; expected \[any, 1, 32000\]"),
        ({"audio": _noise(1).astype(np.float64)}, r"audio: elements of type float64; expected float32"),
    ],
)
def test_inputs_that_do_not_fit_are_one_sentence(files, inputs, sentence) -> None:
    """Names, shapes and types, before anything is run."""
    with pytest.raises(QuernError, match=sentence):
        format_.runner(files["fp32"], "declared")(inputs)
